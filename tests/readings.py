"""Random margins and readings of pairs for the rules that read them, and the rules themselves by kind."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from betahead.beta.adaptive_scaling import AdaptiveScaling
from betahead.beta.alpha_dpo import AlphaTarget
from betahead.beta.amapo import BelowMeanTarget
from betahead.beta.beta_dpo import BatchAdaptiveBeta
from betahead.beta.dama import BoundedRatioBeta
from betahead.beta.gamma_po import AllocatedTarget
from betahead.beta.quantile_controller import QuantileController
from betahead.beta.rule import BetaRule
from betahead.types import PairReading, PromptFeatures, Shaping

RULES: dict[str, Callable[..., BetaRule]] = {
    "beta_dpo": BatchAdaptiveBeta,
    "alpha_dpo": AlphaTarget,
    "adaptive_scaling": AdaptiveScaling,
    "gamma_po": AllocatedTarget,
    "amapo": BelowMeanTarget,
    "dama": BoundedRatioBeta,
    "quantile_controller": QuantileController,
}
# So that every part of a rule acts within a few steps.
LIVELY: dict[str, dict[str, Any]] = {
    "beta_dpo": {"drop": 0.3, "start": "corrected"},
    "dama": {"data": "reward_margin", "data_level": 0.5},
    "quantile_controller": {"warmup": 1, "rate": 0.1},
}
MOVING = sorted(set(RULES) - {"adaptive_scaling", "amapo"})


def quick(kinds: Iterable[str], *short: str) -> list[Any]:
    """The kinds, of which only some are tried in the quick suite."""
    return [kind if kind in short else pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


def lively(kind: str, **changes: Any) -> BetaRule:
    """The rule with settings under which it changes at every step."""
    return RULES[kind](**(LIVELY.get(kind, {}) | changes))


def reading(pairs: int, seed: int = 0, *, moved: float = 1.0, dtype: torch.dtype = torch.float64) -> PairReading:
    """Log-probabilities of ragged answers; `moved` is how far the policy is from the reference, 0 for not at all."""
    rng = torch.Generator().manual_seed(seed)
    tokens = [torch.randint(1, 9, (pairs,), generator=rng) for _ in range(2)]
    reference = [-3.0 * count * torch.rand(pairs, generator=rng, dtype=torch.float64) for count in tokens]
    policy = [r + moved * torch.randn(pairs, generator=rng, dtype=torch.float64) for r in reference]
    return PairReading(
        chosen_logps=policy[0].to(dtype),
        rejected_logps=policy[1].to(dtype),
        reference_chosen_logps=reference[0].to(dtype),
        reference_rejected_logps=reference[1].to(dtype),
        chosen_tokens=tokens[0],
        rejected_tokens=tokens[1],
        confidence=torch.randn(pairs, generator=rng, dtype=torch.float64).to(dtype),
        reference_entropy=torch.rand(pairs, generator=rng, dtype=torch.float64).to(dtype),
        looser=torch.randn(pairs, generator=rng, dtype=torch.float64).to(dtype),
        tighter=torch.randn(pairs, generator=rng, dtype=torch.float64).to(dtype),
    )


def given(pair: PairReading, rule: BetaRule) -> tuple[PromptFeatures, Tensor]:
    """What the rule is given of these pairs: features with a column of every name, and the margin that it asks for."""
    count = len(pair.chosen_logps)
    columns = {
        "reward_margin": torch.linspace(-1.0, 2.0, count),
        "given_beta": torch.linspace(0.1, 2.0, count),
        "strength": torch.linspace(0.2, 1.0, count),
    }
    if rule.margin_of == "policy":
        margin = pair.policy_mean_margin
    elif rule.margin_of == "reference_means":
        margin = pair.mean_margin
    else:
        chosen = pair.chosen_logps - pair.reference_chosen_logps
        margin = chosen - (pair.rejected_logps - pair.reference_rejected_logps)
    return PromptFeatures(pairs=count, columns=columns, pair=pair), margin


def shaped(rule: BetaRule, pair: PairReading) -> Shaping:
    """The rule's shaping of these pairs."""
    return rule(*given(pair, rule))


def slots(shaping: Shaping) -> Tensor:
    """The four slots as rows."""
    return torch.stack([shaping.beta, shaping.target, shaping.weight, shaping.penalty])


def some(pair: PairReading, rows: Any) -> PairReading:
    """These pairs only, in this order."""
    return PairReading(**{field.name: getattr(pair, field.name)[rows] for field in fields(pair)})


def swapped(pair: PairReading) -> PairReading:
    """Chosen and rejected answer in each other's place."""
    turned = {"chosen": "rejected", "rejected": "chosen"}

    def other(name: str) -> str:
        return "_".join(turned.get(part, part) for part in name.split("_"))

    return PairReading(**{field.name: getattr(pair, other(field.name)) for field in fields(pair)})
