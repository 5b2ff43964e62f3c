"""Sums over as many first tokens as both answers have: the same by both roads, and those of answers that end there."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.forward.roads import pair_forward
from betahead.reference.cached import CachedReference
from betahead.reference.frozen import FrozenReference
from betahead.train.trainer import DPOTrainer
from betahead.types import bundled

COLLATORS = {"separate": PairCollator(pad_token_id=0), "shared": PackedCollator()}
NAMES = ("ref_chosen_logps", "ref_rejected_logps", "ref_chosen_common_logps", "ref_rejected_common_logps")


def cut(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both answers of every pair as long as the shorter one."""
    least = [min(len(one["chosen_ids"]), len(one["rejected_ids"])) for one in records]
    return [
        one | {name: one[name][:tokens] for name in ("chosen_ids", "rejected_ids")}
        for one, tokens in zip(records, least, strict=True)
    ]


@pytest.mark.parametrize("road", COLLATORS)
@pytest.mark.parametrize("family", tiny.POLICIES)
def test_they_are_the_sums_of_answers_that_end_there(family: str, road: str) -> None:
    records, collate, model = tiny.records(9), COLLATORS[road], tiny.POLICIES[family]()
    assert any(len(one["chosen_ids"]) > len(one["rejected_ids"]) for one in records)
    logps, _ = pair_forward(model, bundled(collate(records)), common=True)
    ended, _ = pair_forward(model, bundled(collate(cut(records))))
    assert logps.chosen_common is not None and logps.rejected_common is not None
    torch.testing.assert_close(logps.chosen_common, ended.chosen)
    torch.testing.assert_close(logps.rejected_common, ended.rejected)
    plain, _ = pair_forward(model, bundled(collate(records)))
    assert torch.equal(plain.chosen, logps.chosen)
    assert plain.chosen_common is None and plain.rejected_common is None


def test_both_roads_have_the_same_gradient() -> None:
    gradients: list[dict[str, torch.Tensor]] = []
    for collate in COLLATORS.values():
        model = tiny.qwen2()
        logps, _ = pair_forward(model, bundled(collate(tiny.records(6))), common=True)
        assert logps.chosen_common is not None and logps.rejected_common is not None
        (logps.chosen_common.sin() + logps.rejected_common.cos()).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        assert (gradients[1][name] - gradient).abs().max() <= 1e-4 * gradient.abs().max(), name


def test_the_cache_has_them_and_answers_that_end_there_under_one_key(tmp_path: Path) -> None:
    records, cpu = tiny.records(6), torch.device("cpu")
    reference = FrozenReference(tiny.qwen2(), wants_common=True)
    cached = CachedReference(reference, tmp_path, device=cpu)
    batch = bundled(COLLATORS["shared"](records))
    scored = cached.scores(batch, records)
    assert tuple(scored.columns()) == NAMES
    cached.cache.save()
    found = CachedReference(reference, tmp_path, device=cpu, read_only=True).scores(batch, records)
    for name, column in reference.scores(batch).columns().items():
        assert torch.equal(found.columns()[name], column), name
    plain = CachedReference(FrozenReference(tiny.qwen2()), tmp_path, device=cpu)
    assert plain.cache.missing(plain.keys.of_records(records)) == []
    assert plain.cache.missing(plain.keys.of_records(cut(records))) == []


def test_every_road_to_the_reference_gives_one_trajectory(tmp_path: Path) -> None:
    roads: dict[str, dict[str, Any]] = {
        "in memory": {},
        "live": {"precompute_ref_log_probs": False},
        "cached": {"reference_cache": str(tmp_path / "cache")},
        "cached before": {"reference_cache": str(tmp_path / "cache")},
        "as they come": {"reference_cache": str(tmp_path / "cache"), "precompute_ref_log_probs": False},
        "separate": {"forward": "separate"},
    }
    found: dict[str, list[float]] = {}
    for name, road in roads.items():
        args = tiny.arguments(tmp_path / "runs", ld_alpha=0.3, loss_type=["sigmoid", "ipo"], **road)
        trainer = DPOTrainer(
            tiny.qwen2(), tiny.qwen2(1), args, train_dataset=tiny.pairs(12), processing_class=tiny.tokenizer()
        )
        trainer.train()
        found[name] = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    for name, losses in found.items():
        assert losses == pytest.approx(found["in memory"], rel=1e-4), name
    assert len(set(found["in memory"])) == 5


def test_given_columns_without_those_of_the_common_length_are_refused(tmp_path: Path) -> None:
    from datasets import Dataset

    from betahead.errors import DataError

    rows = Dataset.from_list([one | {"ref_chosen_logps": -3.0, "ref_rejected_logps": -4.0} for one in tiny.records(6)])
    with pytest.raises(DataError, match=r"lack ref_chosen_common_logps, ref_rejected_common_logps beside"):
        DPOTrainer(
            tiny.qwen2(),
            args=tiny.arguments(tmp_path, ld_alpha=0.5),
            train_dataset=rows,
            processing_class=tiny.tokenizer(),
        )
