"""Answers of policy and reference to the same prompt, and what a judge says of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from betahead.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Match:
    """Two answers to one prompt.

    Args:
        prompt_id: what is resampled.
        prompt: its words, as a person would read them.
        answer: the policy's.
        other: the reference's.
    """

    prompt_id: str
    prompt: str
    answer: str
    other: str


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a judge says of a match.

    Args:
        outcome: 1 where `answer` wins, 0 where `other` does, ½ for a tie, None where the judge said nothing usable.
        orders: of a judge that reads both answers at once: the side (`answer`, `other`, `tie`) that it chose with
            `answer` first, and with `other` first, `nonsense` for a reply without a verdict, `cut` for one that ended
            at its limit before it; empty for equal answers, which no judge is asked about.
        scores: of a judge that grades answers: those of `answer` and `other`.
    """

    outcome: float | None
    orders: tuple[str, ...] = ()
    scores: tuple[float, float] | None = None


class Judge(Protocol):
    """Whatever can tell which of two answers is better."""

    @property
    def name(self) -> str:
        """The words that name the judge in a report."""
        ...

    def judgements(self, matches: Sequence[Match], progress: Callable[[int], None] = lambda _: None) -> list[Judgement]:
        """One judgement a match, in their order; `progress` gets the number of matches that are done since last."""
        ...


def check_not_cut(judgements: Sequence[Judgement]) -> None:
    """Refuse a limit at which a judge's replies end before their verdict; for judgements that are of no use.

    Raises:
        ConfigError: at least half of the unjudged matches are so because a reply was cut.
    """
    unjudged = [one.orders for one in judgements if one.outcome is None]
    cut = sum("cut" in orders for orders in unjudged)
    if cut and 2 * cut >= len(unjudged):
        raise ConfigError(
            f"`--judge-max-tokens` must leave room for a verdict after what the judge thinks, but in {cut} of "
            f"{len(judgements)} matches a reply ended at it before there was one; raise it, to 4096 say."
        )
