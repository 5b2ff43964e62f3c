"""What a policy descends: one loss, or several with weights, on the log-probabilities of a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from jaxtyping import Float
from torch import Tensor

from betahead.errors import ConfigError
from betahead.losses.divergences import DIVERGENCES
from betahead.losses.margin import answer_logps, logratios, per_token_of, reference_logps
from betahead.losses.on_ranks import Everyone, of_all_ranks
from betahead.losses.settings import ROOM, LossSettings
from betahead.losses.table import Loss, loss_named
from betahead.types import PairLogps, ReferenceScores, Shaping

Pairs = Float[Tensor, " pairs"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Losses of a table with their weights and settings; made by `objective_of`, which knows what goes together.

    Args:
        kinds: rows of `losses.table.LOSSES`.
        weights: of each.
        settings: shared by all that read them.
        margin: what margins are of: the log-ratios that each loss has (`loss`), or, because the rule has them so, means
            per token of the policy alone (`policy_means`) or beside the reference (`reference_means`).
    """

    kinds: tuple[str, ...] = ("sigmoid",)
    weights: tuple[float, ...] = (1.0,)
    settings: LossSettings = field(default_factory=LossSettings)
    margin: Literal["loss", "policy_means", "reference_means"] = "loss"

    @property
    def rows(self) -> tuple[Loss, ...]:
        """The rows of the table."""
        return tuple(loss_named(kind) for kind in self.kinds)

    @property
    def main(self) -> Loss:
        """The loss whose margin a rule reads and the log shows: the first that compares the two answers."""
        return next((row for row in self.rows if row.reads != "chosen answer"), self.rows[0])

    @property
    def compared(self) -> tuple[str, ...]:
        """The losses that compare the two answers, in which a rule acts; the others are anchors."""
        return tuple(kind for kind in self.kinds if loss_named(kind).reads != "chosen answer")

    @property
    def compared_weight(self) -> float:
        """The sum of their weights."""
        return sum(weight for kind, weight in zip(self.kinds, self.weights, strict=True) if kind in self.compared)

    @property
    def needs_reference(self) -> bool:
        """Whether a loss compares with a reference; without, none has to be scored."""
        return any(map(self._compares, self.rows))

    @property
    def needs_common(self) -> bool:
        """Whether log-probabilities of the answers' common length are read (LD-DPO)."""
        return self.settings.ld_alpha is not None

    @property
    def on_batch(self) -> tuple[str, ...]:
        """The losses that act on the pairs of a pass together."""
        return tuple(kind for kind, row in zip(self.kinds, self.rows, strict=True) if row.on_batch)

    @property
    def has_shift(self) -> bool:
        """Whether a loss takes the running reward shift."""
        return any(row.has_shift for row in self.rows)

    @property
    def unit(self) -> str:
        """What the margin is measured in."""
        divergence = self.settings.f_divergence_type
        unit = "nats" if divergence == "reverse_kl" or not self.main.other_divergences else f"f′ of {divergence}"
        return f"{unit} per token" if self._averages(self.main) else unit

    def sides(self, policy: PairLogps, reference: ReferenceScores | None) -> tuple[Pairs, Pairs]:
        """What stands for the log-ratios of chosen and rejected answers in the main loss; their difference is h.

        Source:
            See `losses.margin.logratios` and `losses.divergences`.
        """
        return self._sides_of(self.main, policy, reference)

    def log_ratios(self, policy: PairLogps, reference: ReferenceScores | None) -> tuple[Pairs, Pairs]:
        """The log-ratios that a reward is β times of: summed over tokens; without a reference, the sides themselves.

        Source:
            See `losses.margin.logratios`.
        """
        if not self.needs_reference:
            return self.sides(policy, reference)
        return logratios(policy, reference, ld_alpha=self.settings.ld_alpha)

    def losses(
        self,
        policy: PairLogps,
        reference: ReferenceScores | None,
        shaping: Shaping,
        *,
        shift: Float[Tensor, ""] | None = None,
        everyone: Everyone | None = None,
    ) -> Pairs:
        """The loss of every pair; its mean over the batch is what one descends.

        `weight_i · Σ_k w_k·loss_k,i + penalty_i`, and w·anchor on top, which the weight of a pair leaves alone: a pair
        that says little about preferences has a chosen answer like any other.

        Args:
            policy: log-probabilities of the policy, with those of the common length where `needs_common`.
            reference: the same of the reference, or None where no loss reads it.
            shaping: β, target, weight and penalty of every pair. A target moves margins; losses of both log-ratios
                have no place for one.
            shift: δ, where `has_shift`.
            everyone: gathers what is one value a pair over ranks, for losses that act on the whole pass.

        Returns:
            One value per pair. Of losses that act on the whole pass, only the mean over the pairs has a meaning.

        Source:
            Each loss says its own; several with weights: Wang et al. 2024, Mixed Preference Optimization,
            https://arxiv.org/abs/2411.10442.
        """
        preference = anchored = None
        for row, weight in zip(self.rows, self.weights, strict=True):
            given, keywords = self._given_to(row, policy, reference, shaping, shift)
            if row.on_batch and everyone is not None:
                value = weight * of_all_ranks(row.loss, *given, everyone=everyone, **keywords)
            else:
                value = weight * row.loss(*given, **keywords)
            if row.reads == "chosen answer":
                anchored = value if anchored is None else anchored + value
            else:
                preference = value if preference is None else preference + value
        whole = shaping.penalty if preference is None else shaping.weight * preference + shaping.penalty
        return whole if anchored is None else whole + anchored

    def _compares(self, row: Loss) -> bool:
        return row.needs_reference and self.margin != "policy_means"

    def _averages(self, row: Loss) -> bool:
        return row.per_token or self.margin != "loss"

    def _sides_of(self, row: Loss, policy: PairLogps, reference: ReferenceScores | None) -> tuple[Pairs, Pairs]:
        compares = self._compares(row)
        assert reference is not None or not compares, "the loss compares with a reference that is not there"
        chosen, rejected = logratios(policy, reference if compares else None, ld_alpha=self.settings.ld_alpha)
        if compares:
            score, coefficient = DIVERGENCES[self.settings.f_divergence_type], self.settings.f_alpha_divergence_coef
            chosen, rejected = score(chosen, coefficient), score(rejected, coefficient)
        return per_token_of(chosen, rejected, policy) if self._averages(row) else (chosen, rejected)

    def _given_to(
        self, row: Loss, policy: PairLogps, reference: ReferenceScores | None, shaping: Shaping, shift: Tensor | None
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        keywords: dict[str, Any] = dict(self.settings.of(row))
        if row.has_shift:
            assert shift is not None, "the loss has a running shift that was not handed over"
            keywords["shift"] = shift
        if row.reads == "chosen answer":
            return (policy.chosen, policy.chosen_tokens), keywords
        if row.reads == "margins of both models":
            assert reference is not None, "the loss compares with a reference that is not there"
            alpha = self.settings.ld_alpha
            (chosen, rejected), (first, second) = answer_logps(policy, alpha), reference_logps(reference, alpha)
            return (chosen - rejected - shaping.target, first - second, shaping.beta), keywords
        chosen, rejected = self._sides_of(row, policy, reference)
        if row.reads == "log-ratios":
            return (chosen, rejected, shaping.beta), keywords
        return (shaping.beta * (chosen - rejected - shaping.target), shaping.beta), keywords


def objective_of(kind: str | Sequence[str], weights: Sequence[float] | None = None, **settings: Any) -> Objective:
    """The objective, once names, weights and settings are known to make sense together.

    Args:
        kind: the name of a loss, or a list of names.
        weights: one for each of them; None for 1 each.
        settings: fields of `LossSettings`.

    Raises:
        ConfigError: for a name that does not exist or comes twice, weights that do not fit, or a setting that is out of
            range or that no loss reads.

    Source:
        See `losses.table.LOSSES`.
    """
    given = cast("Any", kind)
    named = isinstance(given, list | tuple) and all(isinstance(one, str) for one in cast("list[Any]", given))
    if not isinstance(given, str) and not (named and given):
        raise ConfigError(f"`loss.kind` must be the name of a loss or a list of names, but is {given!r} instead.")
    kinds = (given,) if isinstance(given, str) else tuple(cast("list[str]", given))
    for one in kinds:
        loss_named(one)
    if len(set(kinds)) != len(kinds):
        raise ConfigError(f"`loss.kind` must name every loss once, but is {list(kinds)} instead.")
    numbers = (1.0,) * len(kinds) if weights is None else tuple(weights)
    if len(numbers) != len(kinds) or not all(map(_is_weight, numbers)):
        raise ConfigError(
            f"`loss.weights` must be a list of one positive number for each of {', '.join(kinds)}, but is "
            f"{list(numbers)} instead."
        )
    if not all(1 / ROOM <= one <= ROOM for one in numbers):
        raise ConfigError(f"`loss.weights` must be from 1e-12 to 1e12, but is {list(numbers)} instead.")
    known = LossSettings(**settings)
    known.check(kinds)
    return Objective(kinds=kinds, weights=tuple(float(one) for one in numbers), settings=known)


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 < value < math.inf
