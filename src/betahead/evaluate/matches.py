"""Answers of policy and reference to the same prompt, and what a judge says of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


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
        orders: of a judge that reads both answers at once: the side (`answer`, `other`, `tie`, `nonsense`) that it
            chose with `answer` first, and with `other` first; empty for equal answers, which no judge is asked about.
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
