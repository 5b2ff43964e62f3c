"""A number that is not finite never reaches a step, and what was seen can be looked at."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import save_file
from transformers import TrainerCallback
from waits import Waits

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.errors import TrainingError
from betahead.train.guard_finite import check_finite, last_good_checkpoint, written_under
from betahead.train.trainer import DPOTrainer

REMEDY = (
    "lower `learning_rate`, clip with `max_grad_norm`, or keep weights and arithmetic in float32, and begin a new run."
)


class LastWeights(TrainerCallback):
    """Keeps the weights as each step leaves them."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.weights.append({name: p.detach().clone() for name, p in model.named_parameters()})


def trainer(folder: Path, *, callbacks: Any = (), rule: Any = None, **settings: Any) -> DPOTrainer:
    return DPOTrainer(
        tiny.llama(),
        args=tiny.arguments(folder, **{"train_sampling_strategy": "sequential"} | settings),
        train_dataset=tiny.pairs(16),
        processing_class=tiny.tokenizer(),
        callbacks=list(callbacks),
        beta=rule or FixedBeta(0.1),
    )


def poisoned(made: DPOTrainer, row: int) -> None:
    """Make the embedding of a token that no earlier pair has no number."""
    rows = made.train_dataset
    parts = ("prompt_ids", "chosen_ids", "rejected_ids")
    earlier = {token for other in range(row) for part in parts for token in rows[other][part]}
    token = next(one for part in parts for one in rows[row][part] if one not in earlier)
    with torch.no_grad():
        made.model.policy.get_input_embeddings().weight[token] = math.nan


def stopped(made: DPOTrainer, **keywords: Any) -> tuple[str, dict[str, Any]]:
    with pytest.raises(TrainingError) as raised:
        made.train(**keywords)
    folder = Path(made.args.output_dir) / "failures"
    return str(raised.value), json.loads((folder / "not_finite.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("forward", ["shared", "separate"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_loss_that_is_no_number_stops_before_its_step_and_names_its_pair(
    accumulation: int, forward: str, tmp_path: Path
) -> None:
    seen = LastWeights()
    size = 2 // accumulation
    made = trainer(
        tmp_path,
        callbacks=[seen],
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulation,
        forward=forward,
        # The log would look at the end only.
        logging_steps=100,
        save_strategy="no",
    )
    poisoned(made, 5)
    message, found = stopped(made)
    place = tmp_path / "failures" / "not_finite.json"
    assert message == f"training must stay finite, but `loss` is nan at step 3 ({place}); {REMEDY}"
    # Two steps were taken, and the weights are those of the second.
    assert made.state.global_step == len(seen.weights) == 2
    for name, p in made.model.named_parameters():
        assert torch.equal(p.nan_to_num(7.0), seen.weights[-1][name].nan_to_num(7.0)), name

    assert (found["what"], found["value"], found["step"]) == ("loss", "nan", 3)
    assert found["grad_norm"] == "nan"
    assert found["last_good_checkpoint"] is None
    assert [pair["row"] for pair in found["pairs"]] == [4, 5]
    assert [pair["offends"] for pair in found["pairs"]] == [False, True]
    good, bad = found["pairs"]
    record, source = made.train_dataset[5], tiny.pairs(16)[5]
    for part in ("prompt", "chosen", "rejected"):
        assert bad[f"{part}_ids"] == record[f"{part}_ids"]
        assert bad[part].removesuffix("<eos>").split() == source[part].split()
    assert bad["prompt_id"] == record["prompt_id"]
    assert bad["beta"] == pytest.approx(0.1)
    assert {bad["loss"], bad["margin"]} == {"nan"}
    assert all(math.isfinite(good[name]) for name in ("loss", "margin", "beta", "chosen_logps", "rejected_logps"))


@pytest.mark.parametrize("whose", ["policy", "rule"])
@pytest.mark.parametrize("clip", [1.0, 0.0], ids=["clipped", "not clipped"])
def test_a_gradient_that_is_not_finite_stops_before_its_step(whose: str, clip: float, tmp_path: Path) -> None:
    seen = LastWeights()
    made = trainer(tmp_path, callbacks=[seen], rule=LearnedBeta(), max_grad_norm=clip)
    parameter = next(getattr(made.model, whose).parameters())

    def overflown(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * (math.inf if made.state.global_step == 1 else 1.0)

    parameter.register_hook(overflown)
    message, found = stopped(made)
    name = "`grad_norm`" if whose == "policy" else "the beta rule's gradient"
    assert re.match(rf"training must stay finite, but {re.escape(name)} is (nan|inf) at step 2 \(", message)
    assert found["what"] == name.strip("`")
    assert [pair["offends"] for pair in found["pairs"]] == [False, False]
    for key, p in made.model.named_parameters():
        assert torch.equal(p, seen.weights[-1][key]), key


class Breaks(TrainerCallback):
    """Makes a weight infinite in a step, as a step that is much too long does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            with torch.no_grad():
                model.policy.model.norm.weight[0] = math.inf


@pytest.mark.parametrize("every", [1, 2])
def test_weights_that_a_step_broke_are_never_saved_over_good_ones(every: int, tmp_path: Path) -> None:
    broken = 3
    made = trainer(
        tmp_path,
        callbacks=[Breaks(broken)],
        save_strategy="steps",
        save_steps=every,
        save_total_limit=1,
        max_steps=6,
    )
    message, found = stopped(made)
    (kept,) = tmp_path.glob("checkpoint-*")
    assert kept.name == "checkpoint-2"
    assert f"; the last good checkpoint is {kept}; " in message
    assert found["last_good_checkpoint"] == str(kept)
    assert found["weights"] == ["policy.model.norm.weight"]
    # Saving looks at once; without, the next step would have.
    what = "`policy.model.norm.weight` is nan at step 3" if every == 1 else "`loss` is nan at step 4"
    assert message.startswith(f"training must stay finite, but {what}")
    # From there the run goes on.
    again = trainer(tmp_path, max_steps=6)
    again.train(resume_from_checkpoint=str(kept))
    assert again.state.global_step == 6


def test_loss_scaling_is_left_to_skip_a_step_while_it_has_room(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.train()
    guard, batch = made.finite, tiny.batch(2)

    def look(scale: float, losses: torch.Tensor) -> None:
        made.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        shown = dict.fromkeys(("margin", "beta"), torch.zeros(2))
        guard.saw(batch, losses, shown)
        guard.norms(math.inf, 0.0)
        guard.on_pre_optimizer_step(made.args, made.state, made.control)

    look(2.0**16, torch.zeros(2))
    with pytest.raises(TrainingError, match="`grad_norm` is inf at step 6"):
        look(0.5, torch.zeros(2))
    with pytest.raises(TrainingError, match="`loss` is nan at step 6"):
        look(2.0**16, torch.tensor([0.0, math.nan]))


def test_a_step_is_asked_once_whether_it_may_be_taken(tmp_path: Path) -> None:
    made = trainer(tmp_path, gradient_accumulation_steps=2)
    seen: list[list[tuple[str, str]]] = []

    class Watched(TrainerCallback):
        def on_step_begin(self, *arguments: Any, **keywords: Any) -> None:
            self.waits = Waits()
            seen.append(self.waits.__enter__())

        def on_optimizer_step(self, *arguments: Any, **keywords: Any) -> None:
            self.waits.__exit__(None, None, None)

    made.add_callback(Watched())
    made.train()
    for step in seen:
        assert [operation for operation, place in step if place.startswith("train/")] == ["tolist"], step


def test_a_finite_end_passes_and_nothing_is_written(tmp_path: Path) -> None:
    check_finite(tiny.qwen2(), {"train_loss": 0.6}, 3, written_under(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_loss_or_a_weight_that_is_no_number_at_the_end_is_written_and_named(tmp_path: Path) -> None:
    place = tmp_path / "failures" / "not_finite.json"
    wanted = f"training must stay finite, but `train_loss` is nan at step 3 ({place}); {REMEDY}"
    with pytest.raises(TrainingError, match=f"^{re.escape(wanted)}$"):
        check_finite(tiny.qwen2(), {"train_loss": math.nan}, 3, written_under(place.parent))
    assert json.loads(place.read_text()) == {"step": 3, "ranks": [0], "train_loss": "nan", "weights": []}
    broken = tiny.qwen2()
    with torch.no_grad():
        broken.model.norm.weight[0] = math.inf
    with pytest.raises(TrainingError, match=r"^training must stay finite, but `model\.norm\.weight` is nan at step 5 "):
        check_finite(broken, {"train_loss": 0.6}, 5, written_under(place.parent))
    assert json.loads(place.read_text()) == {
        "step": 5,
        "ranks": [0],
        "train_loss": 0.6,
        "weights": ["model.norm.weight"],
    }


def test_the_last_good_checkpoint_is_the_newest_with_finite_weights(tmp_path: Path) -> None:
    assert last_good_checkpoint(tmp_path) is None
    for step, value in ((2, 1.0), (9, 1.0), (10, math.nan)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"a": torch.arange(3), "b": torch.tensor([0.0, value])}, folder / "model.safetensors")
    (tmp_path / "checkpoint-old").mkdir()
    assert last_good_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
