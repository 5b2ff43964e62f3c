"""What coupling does to a small language model: the perplexity of prompts after joint learning with β ∝ log PPL."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

from betahead.beta.learned import LearnedBeta
from betahead.train.arguments import DPOConfig
from betahead.train.trainer import DPOTrainer
from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.small_model import SmallModelSpec, fit_small_model
from betahead.worlds.world import Split

SPEC = SmallModelSpec(hidden_size=64, layers=2, intermediate_size=192, tokens=250_000)
PAIRS, HELD_OUT, STEPS, BATCH = 480, 96, 120, 8


@dataclass(frozen=True, kw_only=True)
class Coupled:
    """A training with or without gradient from β into the policy, measured on held-out prompts.

    Args:
        log_ppl: of the prompts, nats per token, before and after.
        accuracy, beta, margin: of the held-out pairs, after.
    """

    way: str
    log_ppl: tuple[float, float]
    accuracy: float
    beta: float
    margin: float

    def line(self) -> str:
        """One line of the table, as Markdown."""
        before, after = self.log_ppl
        return (
            f"| {self.way} | {before:.3f} | {after:.3f} | {after - before:+.3f} | {self.beta:.3f} | "
            f"{self.margin:.1f} | {self.accuracy:.2f} |"
        )


HEAD = (
    "| gradient from β | log PPL of prompts before | after | drift | β | margin, nats | accuracy |\n"
    "|---|---|---|---|---|---|---|"
)


def coupled_rows(steps: int = STEPS, spec: SmallModelSpec = SPEC) -> Iterator[Coupled]:
    """The same training from the same weights, detached and coupled, from one initial β."""
    world = GrammarWorld()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fit_small_model(world.corpus(4000, 0), folder / "reference", spec=spec, seed=0)
        data = {split: _pairs(world, count, split) for split, count in (("train", PAIRS), ("eval", HELD_OUT))}
        for couple in (False, True):
            yield _trained(folder, data, couple=couple, steps=steps)


def _pairs(world: GrammarWorld, count: int, split: Split) -> Dataset:
    return Dataset.from_list([pair.row for pair in world.pairs(count, 0, split)])


def _trained(folder: Path, data: dict[str, Dataset], *, couple: bool, steps: int) -> Coupled:
    args = DPOConfig(
        output_dir=str(folder / "runs"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=32,
        learning_rate=1e-3,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        logging_steps=steps,
    )
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(folder / "reference"),
        args=args,
        train_dataset=data["train"],
        eval_dataset=data["eval"],
        processing_class=AutoTokenizer.from_pretrained(folder / "reference"),
        beta=LearnedBeta(couple=couple, learning_rate=5e-3, ppl_tokens="content"),
    )
    trainer.remove_callback(PrinterCallback)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    return Coupled(
        way="coupled" if couple else "detached",
        log_ppl=(before["eval_prompt/log_ppl"], after["eval_prompt/log_ppl"]),
        accuracy=after["eval_rewards/accuracies"],
        beta=after["eval_beta/level"],
        margin=after["eval_margins/nats"],
    )
