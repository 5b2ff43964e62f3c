"""One process gives the same numbers however a step is cut, its rows are laid out and its activations are kept."""

from pathlib import Path
from typing import Any

import pytest
import same_numbers
import tiny
import torch
from same_numbers import residuals, told, trainer_of
from torch import Tensor

# Whose loss and state are sums over pairs; those that read the micro-batch as a whole depend on what it is.
PAIRWISE = ("joint", "perspective", "coupled", "budget", "reference's perplexity", "epsilon_dpo", "bco", "cal_dpo")
ROADS: dict[str, dict[str, Any]] = {
    "8x1": {"batch": 1, "gradient_accumulation_steps": 8},
    "4x2": {"batch": 2, "gradient_accumulation_steps": 4},
    "not packed": {"forward": "separate"},
    "recomputed": {"gradient_checkpointing": True},
    "recomputed reentrantly": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    },
    "with workers": {"dataloader_num_workers": 2},
}
LARGEST, MEAN = 2e-5, 5e-6
"""Of the residuals in float32, over losses, norms, β and margins of a step and over all weights at the end."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run tells that takes the eight pairs of a step in one pass."""
    known: dict[str, dict[str, Tensor]] = {}

    def of(kind: str) -> dict[str, Tensor]:
        if kind not in known:
            made = trainer_of(tmp_path_factory.mktemp("whole"), kind)
            made.train()
            known[kind] = told(made)
        return known[kind]

    return of


def roads() -> list[Any]:
    quick = {("joint", "4x2"), ("coupled", "not packed"), ("perspective", "recomputed")}
    return [
        pytest.param(kind, road, marks=[] if (kind, road) in quick else pytest.mark.slow, id=f"{kind}, {road}")
        for kind in PAIRWISE
        for road in ROADS
    ]


@tiny.OLD_NAMES
@pytest.mark.parametrize(("kind", "road"), roads())
def test_a_training_is_the_same_by_another_road(kind: str, road: str, whole: Any, tmp_path: Path) -> None:
    made = trainer_of(tmp_path, kind, **ROADS[road])
    made.train()
    for name, (largest, mean) in residuals(told(made), whole(kind)).items():
        assert largest <= LARGEST and abs(mean) <= MEAN, (name, largest, mean)


@pytest.mark.parametrize(
    "kind", [kind if kind in ("joint", "beta_dpo") else pytest.param(kind, marks=pytest.mark.slow)
             for kind in same_numbers.KINDS]
)  # fmt: skip
def test_a_training_that_is_run_again_is_the_same_bits(kind: str, whole: Any, tmp_path: Path) -> None:
    made = trainer_of(tmp_path, kind)
    made.train()
    again = told(made)
    assert all(torch.equal(value, again[name]) for name, value in whole(kind).items())


def test_the_residuals_can_be_too_large(whole: Any, tmp_path: Path) -> None:
    made = trainer_of(tmp_path, "joint", learning_rate=0.051)
    made.train()
    found = residuals(told(made), whole("joint"))
    assert found["line/loss"][0] > LARGEST and found["weights"][0] > LARGEST
