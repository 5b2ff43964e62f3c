"""Settings of losses at the edges of what they may be: each is refused in a sentence, or leaves finite numbers."""

import math
from typing import Any

import pytest
import torch

from betahead.beta.fixed import FixedBeta
from betahead.errors import ConfigError
from betahead.losses.objective import objective_of
from betahead.losses.table import LOSSES
from betahead.types import PairLogps, PromptFeatures, ReferenceScores

EDGES = (0, -1.0, 1e-300, 1e-12, 0.25, 0.4999999, 0.5, 1.0, 1e12, 1e300, math.nan, math.inf, True)
PAIRS = 4


def check_finite(kind: str, beta: float, settings: dict[str, Any], weight: float = 1.0) -> bool:
    """Whether the settings are accepted; then loss and gradient are finite, at the reference and away from it."""
    try:
        objective, rule = objective_of([kind], [weight], **settings), FixedBeta(beta)
    except ConfigError as error:
        text = str(error)
        assert text.startswith(("`loss.", "`beta.")) and text.endswith(".") and "\n" not in text, text
        return False
    for moved in (0.0, 1.0, 30.0):
        rng = torch.Generator().manual_seed(1)
        numbers = -20.0 * torch.rand(4, PAIRS, generator=rng)
        said = (numbers[:2] + moved * torch.randn(2, PAIRS, generator=rng)).clamp(max=0.0).requires_grad_()
        tokens = torch.arange(1, PAIRS + 1)
        policy = PairLogps(
            chosen=said[0],
            rejected=said[1],
            chosen_tokens=tokens,
            rejected_tokens=tokens,
            chosen_common=0.5 * said[0],
            rejected_common=0.5 * said[1],
        )
        theirs = numbers[:2]
        reference = ReferenceScores(
            chosen_logps=theirs[0],
            rejected_logps=theirs[1],
            chosen_common_logps=0.5 * theirs[0],
            rejected_common_logps=0.5 * theirs[1],
        )
        shaping = rule(PromptFeatures(pairs=PAIRS), torch.zeros(PAIRS))
        loss = objective.losses(policy, reference, shaping, shift=torch.tensor(0.1)).mean()
        (gradient,) = torch.autograd.grad(loss, said)
        assert loss.isfinite() and gradient.isfinite().all(), (kind, beta, settings, moved)
    return True


def smoothed(kind: str) -> dict[str, Any]:
    return {"label_smoothing": 0.1} if LOSSES[kind].smooths == "must" else {}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", LOSSES)
def test_a_beta_at_its_edge(kind: str) -> None:
    assert [check_finite(kind, value, smoothed(kind)) for value in EDGES].count(True) > 3


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", LOSSES)
def test_a_setting_at_its_edge(kind: str) -> None:
    row = LOSSES[kind]
    names = [*row.settings, *(["label_smoothing"] if row.smooths != "no" else [])]
    for name in names:
        accepted = [check_finite(kind, 0.1, smoothed(kind) | {name: value}) for value in EDGES]
        assert accepted.count(True) > 3, name
    for value in EDGES:
        check_finite(kind, 0.1, smoothed(kind) | {"ld_alpha": value})
        check_finite(kind, 0.1, smoothed(kind), weight=value)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", [kind for kind, row in LOSSES.items() if row.other_divergences])
@pytest.mark.parametrize("divergence", ["forward_kl", "js_divergence", "alpha_divergence"])
def test_a_divergence_at_its_edge(kind: str, divergence: str) -> None:
    for value in (*EDGES, -1e12) if divergence == "alpha_divergence" else (0.5,):
        check_finite(kind, 0.1, smoothed(kind) | {"f_divergence_type": divergence, "f_alpha_divergence_coef": value})
