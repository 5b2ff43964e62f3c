"""NLL, Brier, ECE and slope of σ(z) where the chance of each label is known, for many runs at once.

A pair counts with both of its labels: the first answer is preferred with the known chance p, and σ(z) is what the model
says of it. These are the exact means that `stats.calibration` estimates from drawn labels; its rows for a pair would be
z with weight w·p and −z with weight w·(1 − p).
"""

import numpy as np
from jaxtyping import Float

from betahead.stats.calibration import BINS, least_slope

Logits = Float[np.ndarray, "*runs pairs"]
PerPair = Float[np.ndarray, "*#runs pairs"]
"""Chances of a label, or weights that sum to 1 over the pairs; runs may share them."""
Values = Float[np.ndarray, "*runs"]


def soft_nll(z: Logits, chance: PerPair, weight: PerPair) -> Values:
    """Σ w·(−p·log σ(z) − (1 − p)·log σ(−z)), nats.

    Args:
        z: logits that the first answer of a pair wins.
        chance: p, that its label says so.
        weight: w ≥ 0 of each pair.

    Returns:
        Values ≥ 0; log 2 at z = 0, and the entropy of the labels, the least there is, where σ(z) = p.

    Source:
        Good 1952, Rational decisions, Journal of the Royal Statistical Society B 14, 107–114.
    """
    losses = np.log1p(np.exp(-np.abs(z))) + np.maximum(-z, 0.0) + (1.0 - chance) * z
    return np.asarray(np.sum(weight * losses, axis=-1))


def soft_brier(z: Logits, chance: PerPair, weight: PerPair) -> Values:
    """Σ w·(p·(1 − σ(z))² + (1 − p)·σ(z)²).

    Returns:
        Values in [0, 1]; ¼ at z = 0.

    Source:
        Brier 1950, Monthly Weather Review 78, 1–3.

    Deviates:
        by a factor of ½ from Brier's sum over both outcomes, as is usual for two.
    """
    said = _sigmoid(z)
    return np.asarray(np.sum(weight * (said**2 - 2.0 * chance * said + chance), axis=-1))


def soft_ece(z: Logits, chance: PerPair, weight: PerPair, *, bins: int = BINS) -> Values:
    """Σ_b |Σ_{pairs in b} w·(chance that the predicted side is right − confidence)| over bins of equal width.

    The confidence is σ(|z|); the bins divide [½, 1], each holds its upper edge, the first both.

    Returns:
        Values in [0, 1]; 0 at z = 0, where nothing is claimed, and where σ(z) = p.

    Source:
        Naeini, Cooper and Hauskrecht 2015, AAAI; Guo et al. 2017, equation 3, https://arxiv.org/abs/1706.04599.
    """
    runs = z.shape[:-1]
    confidence = _sigmoid(np.abs(z))
    right = 0.5 + np.sign(z) * (chance - 0.5)
    member = np.clip(np.ceil((confidence - 0.5) * 2.0 * bins).astype(np.int64) - 1, 0, bins - 1)
    member = member.reshape(-1, z.shape[-1]) + bins * np.arange(int(np.prod(runs)))[:, None]
    error = np.broadcast_to(weight * (right - confidence), z.shape)
    per_bin = np.bincount(member.ravel(), weights=error.ravel(), minlength=bins * int(np.prod(runs)))
    return np.asarray(np.abs(per_bin.reshape(*runs, bins)).sum(axis=-1))


def soft_slope(z: Logits, chance: PerPair, weight: PerPair) -> Values:
    """The factor a with the least NLL of σ(a·z); 1/a is the temperature of temperature scaling.

    Args:
        z: finite logits.
        chance: of the labels, inside (0, 1).
        weight: of the pairs.

    Returns:
        Values of either sign; 1 for a calibrated model, below 1 if too sure; nan where all z are 0.

    Source:
        Cox 1958, Two further applications of a model for binary regression, Biometrika 45, 562–565; Guo et al. 2017,
        section 4.2, https://arxiv.org/abs/1706.04599.
    """
    # In units of the spread of z, one starting step and one tolerance serve every scale.
    scale = np.sqrt(np.sum(weight * z**2, axis=-1))
    u = z / np.where(scale > 0.0, scale, 1.0)[..., None]
    pull, bend = weight * u, weight * u**2

    def derivatives(a: Values) -> tuple[Values, Values]:
        said = _sigmoid(a[..., None] * u)
        first, second = pull * (said - chance), bend * said * (1.0 - said)
        return np.asarray(first.sum(axis=-1)), np.asarray(second.sum(axis=-1))

    return np.asarray(least_slope(derivatives, z.shape[:-1]) / np.where(scale > 0.0, scale, np.nan))


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * z))
