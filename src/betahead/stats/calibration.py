"""Do predicted win probabilities come true? NLL, Brier, ECE and slope of σ(z) on held-out pairs.

z is the logit that the answer which was preferred wins: β·h for a pair, −β·h had it been judged the other way round. A
soft label p is two rows, z with weight p and −z with weight 1 − p. Every function takes rows of weights, such as how
often a resample holds each pair, so that `statistic_interval(lambda w: ece(z, w), prompts, seed=0)` is its cluster
bootstrap.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

BINS = 15

_STEPS = 200
_TOLERANCE = 1e-10

Logits = Float[np.ndarray, " pairs"]
Weights = Float[np.ndarray, "*replicates pairs"]
Values = Float[np.ndarray, "*replicates"]


def nll(z: Logits, weights: Weights | None = None) -> Values:
    """The weighted mean of −log σ(z), in nats.

    Returns:
        Values ≥ 0; log 2 = 0.693 at z = 0.

    Source:
        Good 1952, Rational decisions, Journal of the Royal Statistical Society B 14, 107–114.
    """
    rows = _weights(z, weights)
    return _mean(np.logaddexp(0.0, -z), rows)


def brier(z: Logits, weights: Weights | None = None) -> Values:
    """The weighted mean of (1 − σ(z))², the squared error of the probability given to what happened.

    Returns:
        Values in [0, 1]; ¼ at z = 0.

    Source:
        Brier 1950, Monthly Weather Review 78, 1–3.

    Deviates:
        by a factor of ½ from Brier's sum over both outcomes, as is usual for two.
    """
    rows = _weights(z, weights)
    return _mean(_sigmoid(-z) ** 2, rows)


def ece(z: Logits, weights: Weights | None = None, *, bins: int = BINS) -> Values:
    """The expected calibration error: Σ_b share_b · |accuracy_b − confidence_b| over bins b of equal width.

    The confidence is the probability of the predicted side, c = σ(|z|); a pair is right where z > 0, half right
    at z = 0. The bins divide [½, 1]; each holds its upper edge, the first both.

    Args:
        z: logits of the preferred answers, finite.
        weights: rows of weights ≥ 0.
        bins: number of bins.

    Returns:
        Values in [0, 1]; 0 at z = 0, and 1 − σ(z) where every pair has the same z > 0. Chance alone makes it positive,
        and resampling adds as much again, so its percentile interval lies too high and may miss the estimate. Compare
        two models on the same pairs, not one with 0.

    Source:
        Naeini, Cooper and Hauskrecht 2015, AAAI; Guo et al. 2017, equation 3, https://arxiv.org/abs/1706.04599.

    Deviates:
        The bins divide [½, 1] and not [0, 1]: with two outcomes no predicted side has less than ½.
    """
    assert bins >= 1, bins
    rows = _weights(z, weights)
    confidence = _sigmoid(np.abs(z))
    error = (np.sign(z) + 1.0) / 2.0 - confidence
    member = np.clip(np.ceil((confidence - 0.5) * 2.0 * bins).astype(np.int64) - 1, 0, bins - 1)
    per_bin = rows @ (np.eye(bins)[member] * error[:, None])
    return np.asarray(np.abs(per_bin).sum(axis=-1) / rows.sum(axis=-1))


def slope(z: Logits, weights: Weights | None = None) -> Values:
    """The factor a that makes σ(a·z) fit best: the a with the least NLL; 1 for a calibrated model, below 1 if too sure.

    1/a is the temperature of temperature scaling.

    Args:
        z: logits of the preferred answers, finite.
        weights: rows of weights ≥ 0.

    Returns:
        Values of either sign: log 3 where three of four pairs have z = 1 and the fourth z = −1; −inf or +inf where no
        pair with a weight is right or none wrong; nan where all have z = 0.

    Source:
        Cox 1958, Two further applications of a model for binary regression, Biometrika 45, 562–565; Guo et al. 2017,
        section 4.2, https://arxiv.org/abs/1706.04599.
    """
    rows = np.atleast_2d(_weights(z, weights))
    right, wrong = rows @ (z > 0.0) > 0.0, rows @ (z < 0.0) > 0.0
    found = np.select([right & ~wrong, wrong & ~right, ~right & ~wrong], [np.inf, -np.inf, np.nan], 0.0)
    mixed = right & wrong
    if mixed.any():
        # In units of the spread of z, one starting step and one tolerance serve every scale.
        scale = float(np.max(np.abs(z)))
        found[mixed] = _root(z / scale, rows[mixed]) / scale
    return np.asarray(found.reshape(() if weights is None else weights.shape[:-1]))


def _root(u: Logits, rows: Float[np.ndarray, "replicates pairs"]) -> Float[np.ndarray, " replicates"]:
    first, second = rows * u, rows * u**2

    def derivatives(a: Values) -> tuple[Values, Values]:
        wrong = _sigmoid(-np.outer(a, u))
        return -np.sum(first * wrong, axis=1), np.sum(second * wrong * (1.0 - wrong), axis=1)

    return least_slope(derivatives, (len(rows),))


def least_slope(derivatives: Callable[[Values], tuple[Values, Values]], shape: tuple[int, ...]) -> Values:
    """The a at which a convex function is least, for many functions at once.

    Newton's method on the derivative from a = 0, kept inside a bracket that each step narrows.

    Args:
        derivatives: the first and second derivative in a.
        shape: of a.

    Source:
        Press et al. 2007, Numerical Recipes, section 9.4 (Newton's method held in a bracket).
    """
    a = np.zeros(shape)
    low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
    for _ in range(_STEPS):
        gradient, curvature = derivatives(a)
        low, high = np.where(gradient <= 0.0, a, low), np.where(gradient >= 0.0, a, high)
        # A flat curve sends Newton's step far away: no step more than doubles a.
        reach = 1.0 + np.abs(a)
        new = a + np.clip(-gradient / np.maximum(curvature, 1e-300), -reach, reach)
        outside = (new <= low) | (new >= high)
        middle = np.where(np.isfinite(low) & np.isfinite(high), (low + high) / 2.0, new)
        new = np.where((gradient != 0.0) & outside, middle, np.where(gradient == 0.0, a, new))
        done = np.abs(new - a) <= _TOLERANCE * (1.0 + np.abs(a))
        a = new
        if done.all():
            return a
    raise AssertionError(f"the slope did not converge within {_STEPS} steps")


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def _weights(z: Logits, weights: Weights | None) -> Weights:
    assert np.isfinite(z).all() and len(z) > 0, "the logits must be finite"
    rows = np.ones(len(z)) if weights is None else weights
    assert rows.shape[-1] == len(z), (rows.shape, z.shape)
    return rows


def _mean(values: Logits, rows: Weights) -> Values:
    return np.asarray((rows @ values) / rows.sum(axis=-1))
