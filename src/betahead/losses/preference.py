"""The one equation of the package: loss_i = weight_i · link(β_i · (h_i − target_i)) + penalty_i."""

from typing import Any, cast

from jaxtyping import Float
from torch import Tensor

from betahead.errors import ConfigError
from betahead.losses.settings import LossSettings
from betahead.losses.table import LOSSES, loss_named
from betahead.types import Shaping


def preference_loss(
    margin: Float[Tensor, " pairs"],
    shaping: Shaping,
    *,
    kind: str = "sigmoid",
    label_smoothing: float = 0.0,
    **settings: Any,
) -> Float[Tensor, " pairs"]:
    """The loss of every pair; its mean over the batch is what one descends.

    `loss_i = weight_i · link(β_i · (h_i − target_i)) + penalty_i`

    Args:
        margin: h, nats; nats per token for losses that are `per_token`.
        shaping: β, target, weight and penalty of every pair, from a beta rule.
        kind: a row of `losses.table.LOSSES` that reads the margin; `losses.objective` has the others.
        label_smoothing: share of labels taken to be flipped, in [0, 0.5); only where the link reads it.
        settings: those of the row, such as `simpo_gamma`.

    Returns:
        One value per pair; log 2 at h = 0 for the sigmoid link with weight 1, target 0 and penalty 0.

    Raises:
        ConfigError: for an unknown kind or one that reads more than the margin, a smoothing or setting it cannot use,
            a shaping that is none, or shapes that would broadcast.

    Gradient:
        Flows into the margin and into all four slots of the shaping. A rule that wants its β constant for the
        policy detaches what it reads, not what it returns: then this one scalar gives policy and rule exactly
        their partial derivatives.

    Source:
        Rafailov et al. 2023, equation 7, https://arxiv.org/abs/2305.18290, with β a function of the pair; a β of the
        prompt alone is the KL weight of that prompt: Chen et al. 2025, MallowsPO, proposition 4,
        https://arxiv.org/abs/2405.14953.
    """
    row = loss_named(kind)
    if row.reads != "margin":
        readers = ", ".join(sorted(name for name, one in LOSSES.items() if one.reads == "margin"))
        raise ConfigError(
            f"`loss.kind` must be a loss of the margin alone ({readers}), but is {kind!r} instead; it reads the "
            f"{row.reads}, see betahead.losses.objective."
        )
    known = LossSettings(label_smoothing=label_smoothing, **settings)
    known.check([kind])
    if not isinstance(cast("object", shaping), Shaping):
        raise ConfigError(
            f"`shaping` must be a betahead.Shaping with one β per pair, but is {shaping!r} instead; a rule returns one."
        )
    if margin.ndim != 1 or margin.shape != shaping.beta.shape:
        # A silent broadcast would give pairs × pairs losses.
        raise ConfigError(
            f"`margin` must hold one number per pair, as β does, but has shape {list(margin.shape)} beside "
            f"{list(shaping.beta.shape)}; flatten it."
        )
    z = shaping.beta * (margin - shaping.target)
    return shaping.weight * row.loss(z, shaping.beta, **known.of(row)) + shaping.penalty
