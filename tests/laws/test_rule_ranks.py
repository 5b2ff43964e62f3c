"""Two ranks decide as one process does on the pairs of both, and keep the same statistics."""

from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest
import readings
import tiny
import torch
from test_rules_in_training import pairs
from together import Ranks
from torch import Tensor

from betahead.beta.rule import BetaRule, Need
from betahead.data.prepare import prepare_pairs
from betahead.train.trainer import DPOTrainer

STEPS, PAIRS = 4, 5


class Together:
    """Two ranks as two threads: what one gathers waits for what the other does."""

    def __init__(self) -> None:
        self.barrier = Barrier(2, timeout=20)
        self.values: dict[int, Tensor] = {}

    def gathered(self, rank: int) -> Callable[[Tensor], Tensor]:
        def both(of: Tensor) -> Tensor:
            self.values[rank] = of
            self.barrier.wait()
            joined = torch.cat([self.values[0], self.values[1]])
            self.barrier.wait()
            return joined

        return both


@pytest.mark.parametrize("kind", readings.RULES)
def test_two_ranks_decide_as_one_process_on_the_pairs_of_both(kind: str) -> None:
    alone = readings.lively(kind).double()
    ranks = [readings.lively(kind).double() for _ in range(2)]
    together = Together()
    for rank, rule in enumerate(ranks):
        rule.gathered = together.gathered(rank)
        rule.own = lambda of, rank=rank: of.chunk(2)[rank]
    wanted, found = [], {0: [], 1: []}
    batches = [readings.reading(2 * PAIRS, seed=step) for step in range(STEPS)]

    def given(rule: BetaRule, pair: object, rows: slice) -> tuple[object, Tensor]:
        features, margin = readings.given(pair, rule)
        columns = {name: values[rows] for name, values in features.columns.items()}
        part = type(features)(pairs=len(margin[rows]), columns=columns, pair=readings.some(pair, rows))
        return part, margin[rows]

    def rank_of(number: int) -> None:
        rows = slice(number * PAIRS, (number + 1) * PAIRS)
        for pair in batches:
            found[number].append(readings.slots(ranks[number](*given(ranks[number], pair, rows))))

    threads = [Thread(target=rank_of, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for step, pair in enumerate(batches):
        wanted = readings.slots(readings.shaped(alone, pair))
        torch.testing.assert_close(torch.cat([found[0][step], found[1][step]], dim=1), wanted, rtol=1e-12, atol=1e-12)
    for name, value in alone.state_dict().items():
        for rule in ranks:
            torch.testing.assert_close(rule.state_dict()[name], value, rtol=1e-12, atol=1e-12, msg=name)


def trained(folder: Path, kind: str, *, batch: int) -> DPOTrainer:
    """Four steps of eight pairs in float64."""
    torch.set_num_threads(1)
    args = tiny.arguments(
        folder,
        per_device_train_batch_size=batch,
        max_steps=4,
        optim="sgd",
        learning_rate=0.05,
        train_sampling_strategy="sequential",
        ddp_find_unused_parameters=False,
    )
    data = prepare_pairs(pairs(16), tiny.tokenizer(), max_length=100).dataset
    rule = readings.lively(kind)
    reads_it = rule.margin_of == "reference" or Need.PAIR in rule.needs
    # Two ranks take turns: in the pairs of a step, those of the first come first.
    trainer = DPOTrainer(
        tiny.in_float64(tiny.qwen2()),
        tiny.in_float64(tiny.qwen2(1)) if reads_it else None,
        args,
        train_dataset=data,
        processing_class=tiny.tokenizer(),
        beta=rule,
    )
    trainer.rule.double()
    trainer.train()
    return trainer


def one_of_two(folder: str) -> dict[str, Tensor]:
    """What every rule's training ended with on a rank."""
    found: dict[str, Tensor] = {}
    for kind in readings.RULES:
        trainer = trained(Path(folder), kind, batch=4)
        assert trainer.accelerator.num_processes == 2
        found |= {f"{kind}/{name}": value.clone() for name, value in trainer.model.state_dict().items()}
    return found


@pytest.mark.slow
def test_two_processes_train_as_one_does(two_ranks: Ranks, tmp_path: Path) -> None:
    ranks = two_ranks.run(one_of_two, str(tmp_path))
    for kind in readings.RULES:
        alone = trained(tmp_path / kind, kind, batch=8)
        for name, value in alone.model.state_dict().items():
            for found in ranks:
                torch.testing.assert_close(found[f"{kind}/{name}"], value, rtol=1e-9, atol=1e-11, msg=f"{kind} {name}")
