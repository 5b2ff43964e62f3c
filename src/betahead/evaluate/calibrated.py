"""Whether the pairs' win probabilities come true, as they are and after one temperature.

The temperature is cross-fitted: prompts are dealt into folds, and the pairs of a fold are rescaled by what fits the
other folds best. So no pair is scored with a temperature that has seen its label, and none is spent on fitting alone.
Every resample fits again, so the intervals hold what the fitting adds.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from betahead.stats.bootstrap import LEVEL, REPLICATES, Interval, statistics_intervals
from betahead.stats.calibration import brier, ece, nll, slope
from betahead.stats.soft_calibration import soft_brier, soft_ece, soft_nll, soft_slope

FOLDS = 5
FACTORS = (1e-3, 1e3)
"""What a fitted factor is held to."""

# Of the largest logit: log-probabilities are rounded to about that much, so what is smaller has no sign of its own.
_ROUNDING = 1e-6
_NOTHING = 1e-12

Logits = Float[np.ndarray, " pairs"]
Rows = Float[np.ndarray, "replicates pairs"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """NLL (nats), Brier score, ECE over 15 bins and slope, each with its interval by prompt."""

    nll: Interval
    brier: Interval
    ece: Interval
    slope: Interval

    def intervals(self) -> dict[str, Interval]:
        """The four by name."""
        return {"nll": self.nll, "brier": self.brier, "ece": self.ece, "slope": self.slope}


@dataclass(frozen=True, kw_only=True)
class Rescaled(Calibration):
    """The calibration of σ(a·z) after cross-fitting.

    Args:
        folds: into so many the prompts were dealt.
        factor: the a that fits all pairs best, what one would use from now on; 1/a is the temperature.
    """

    folds: int
    factor: float


def calibration_of(
    z: Logits, prompts: np.ndarray, *, seed: int, replicates: int = REPLICATES, level: float = LEVEL
) -> tuple[Calibration, Rescaled | None]:
    """The calibration of σ(z) as it is, and after one factor that is fitted on other prompts than it is read on.

    Args:
        z: logits that the preferred answer wins, β·h.
        prompts: what prompt each pair belongs to.
        seed: of the folds and of the resampling.
        replicates: resamples drawn.
        level: the share of replicates inside an interval.

    Returns:
        Before and after; no after for a single prompt.
    """
    told = np.where(np.abs(z) < max(_NOTHING, _ROUNDING * np.abs(z).max()), 0.0, z)

    def before(weights: Rows) -> Float[np.ndarray, "replicates 4"]:
        return np.stack([nll(z, weights), brier(z, weights), ece(z, weights), _angle(slope(told, weights))], axis=1)

    found = statistics_intervals(before, prompts, seed=seed, replicates=replicates, level=level)
    plain = Calibration(**_named(found, is_known=bool(told.any())))
    fold = _folds(prompts, seed)
    folds = int(fold.max()) + 1
    if folds == 1:
        return plain, None

    def after(weights: Rows) -> Float[np.ndarray, "replicates 4"]:
        factors = _factors(told, weights, fold)[:, fold]
        scaled = z * factors
        share = weights / weights.sum(axis=1, keepdims=True)
        sure = np.ones((1, len(z)))
        return np.stack(
            [
                soft_nll(scaled, sure, share),
                soft_brier(scaled, sure, share),
                soft_ece(scaled, sure, share),
                _angle(_slopes(told * factors, share)),
            ],
            axis=1,
        )

    found = statistics_intervals(after, prompts, seed=seed, replicates=replicates, level=level)
    return plain, Rescaled(
        **_named(found, is_known=bool(told.any())), folds=folds, factor=float(_fitted(told, np.ones((1, len(z))))[0])
    )


def _folds(prompts: np.ndarray, seed: int) -> Int[np.ndarray, " pairs"]:
    """The fold of each pair; the pairs of a prompt share one, and folds hold like numbers of prompts."""
    names, member = np.unique(prompts, return_inverse=True)
    places = np.random.default_rng(seed).permutation(len(names))
    return (places % min(FOLDS, len(names)))[member]


def _factors(z: Logits, weights: Rows, fold: Int[np.ndarray, " pairs"]) -> Float[np.ndarray, "replicates folds"]:
    """For each fold the factor that fits the pairs of all others best."""
    others = [fold != number for number in range(int(fold.max()) + 1)]
    return np.stack([_fitted(z[rest], weights[:, rest]) for rest in others], axis=1)


def _fitted(z: Logits, weights: Rows) -> Float[np.ndarray, " replicates"]:
    """The factor that fits best, with Platt's targets: (N + 1)/(N + 2) for N pairs where 1 was seen.

    They keep the factor of a few pairs that all are right finite: they are no proof that every pair will be. (Platt
    1999, Probabilistic outputs for support vector machines, section 2.2.)
    """
    count = weights.sum(axis=1, keepdims=True)
    target = np.broadcast_to((count + 1.0) / (count + 2.0), weights.shape)
    found = soft_slope(np.broadcast_to(z, weights.shape), target, weights / np.maximum(count, 1.0))
    return _held(found)


def _held(factors: np.ndarray) -> np.ndarray:
    """Factors within `FACTORS`; 1 where nothing can be fitted because all logits are 0."""
    return np.clip(np.where(np.isnan(factors), 1.0, factors), *FACTORS)


def _slopes(z: Rows, share: Rows) -> Float[np.ndarray, " replicates"]:
    """The slope of each row of logits: infinite where all are right, as `stats.calibration.slope` has it."""
    right, wrong = np.sum(share * (z > 0.0), axis=1) > 0.0, np.sum(share * (z < 0.0), axis=1) > 0.0
    found = np.select([right & ~wrong, wrong & ~right, ~right & ~wrong], [np.inf, -np.inf, np.nan], 0.0)
    mixed = right & wrong  # a finite slope, whatever the chances
    if mixed.any():
        found[mixed] = soft_slope(z[mixed], np.ones((1, z.shape[1])), share[mixed])
    return found


def _angle(slopes: np.ndarray) -> np.ndarray:
    """Slopes as angles: quantiles need numbers that are finite, and a resample may have no finite slope.

    A resample whose logits are all 0 says nothing about the slope and counts as 1.
    """
    return np.arctan(np.where(np.isnan(slopes), 1.0, slopes))


def _named(found: list[Interval], *, is_known: bool) -> dict[str, Interval]:
    """The four intervals by name, the slope's made of its angle's."""
    *others, angle = found
    if is_known:
        values = [None if bound is None else _tangent(bound) for bound in (angle.low, angle.high)]
        last = Interval(estimate=_tangent(angle.estimate), low=values[0], high=values[1])
    else:
        last = Interval(estimate=float("nan"), low=None, high=None)
    return dict(zip(("nll", "brier", "ece", "slope"), (*others, last), strict=True))


def _tangent(angle: float) -> float:
    beyond = abs(angle) > np.pi / 2 - 1e-12
    return float(np.copysign(np.inf, angle) if beyond else np.tan(angle))
