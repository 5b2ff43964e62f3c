"""What guards look for in the lines of the log: each thing once, with what to do about it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

Row = Mapping[str, Any]


@dataclass(kw_only=True)
class Watch(ABC):
    """Speaks once, after so many log lines in a row beyond its limit.

    Every attribute is a JSON value: what has been seen so far goes into a checkpoint and comes back.

    Args:
        limit: see `GuardLimits`.
        patience: log lines in a row.
        streak: those so far.
        told: how often it has spoken.
    """

    name: ClassVar[str]
    speaks_once: ClassVar[bool] = True
    limit: float
    patience: int = 1
    streak: int = 0
    told: int = 0

    @abstractmethod
    def beyond(self, row: Row) -> bool | None:
        """Whether the line is beyond the limit; None when it does not say."""

    @abstractmethod
    def sentence(self, row: Row, step: int) -> str:
        """What was seen and what to do."""

    def look(self, row: Row, step: int) -> str | None:
        """The sentence, when it is time for it."""
        found = self.beyond(row)
        if found is None:
            return None
        self.streak = self.streak + 1 if found else 0
        if self.told or self.streak < self.patience:
            return None
        self.told = 1
        return self.sentence(row, step)


@dataclass(kw_only=True)
class AtBound(Watch):
    """β of most pairs lies on a bound, where it does not learn.

    Args:
        bounds: of β.
    """

    name: ClassVar[str] = "at_bound"
    bounds: tuple[float, float]

    def beyond(self, row: Row) -> bool | None:
        """The share on a bound against the limit."""
        share = row.get("beta/at_bound")
        return None if share is None else share >= self.limit

    def sentence(self, row: Row, step: int) -> str:
        """The share, the bounds, and what holds β back."""
        low, high = self.bounds
        return (
            f"β of {row['beta/at_bound']:.0%} of the pairs has lain on a bound ({low:g} or {high:g}) for "
            f"{self.patience} log lines by step {step}, and learns nothing there; widen `beta.bounds`, lower "
            "`beta.learning_rate`, or hold β back with a larger prior or rho."
        )


@dataclass(kw_only=True)
class Constant(Watch):
    """β had a spread over pairs and has lost it.

    Args:
        widest: the largest spread over the mean so far.
    """

    name: ClassVar[str] = "constant"
    widest: float = 0.0

    def beyond(self, row: Row) -> bool | None:
        """The spread over the mean against the limit, once it has been ten times as large."""
        if "beta/std" not in row or not row["beta/mean"] > 0:
            return None
        spread = row["beta/std"] / row["beta/mean"]
        self.widest = max(self.widest, spread)
        return self.widest >= 10 * self.limit > 10 * spread

    def sentence(self, row: Row, step: int) -> str:
        """The spreads, and what brings one back."""
        return (
            f"β has become a constant, {row['beta/mean']:.3g} for every pair, for {self.patience} log lines by step "
            f"{step}, after a spread of {self.widest:.1%} of its mean; lower `beta.learning_rate`, check the bounds, "
            "or use `beta.kind: fixed`, which is cheaper."
        )


@dataclass(kw_only=True)
class Falling(Watch):
    """Chosen and rejected answers both become less likely than they were under the reference."""

    name: ClassVar[str] = "falling"

    def beyond(self, row: Row) -> bool | None:
        """Both mean log-ratios against the limit."""
        if "logratios/chosen" not in row:
            return None
        return max(row["logratios/chosen"], row["logratios/rejected"]) < -self.limit

    def sentence(self, row: Row, step: int) -> str:
        """Both falls, and what holds the chosen answers up."""
        return (
            "the log-probabilities of both answers have fallen against the reference, by "
            f"{-row['logratios/chosen']:.3g} (chosen) and {-row['logratios/rejected']:.3g} nats (rejected), for "
            f"{self.patience} log lines by step {step}: probability goes to answers that nobody compared; add an "
            "anchor (`loss.kind: [sigmoid, sft]`), raise β, or lower `learning_rate`."
        )


@dataclass(kw_only=True)
class FarAway(Watch):
    """The policy is farther from the reference than it was to go."""

    name: ClassVar[str] = "kl"

    def beyond(self, row: Row) -> bool | None:
        """The estimate against the limit."""
        nats = self._nats(row)
        return None if nats is None else nats > self.limit

    def sentence(self, row: Row, step: int) -> str:
        """The estimate, where it comes from, and what limits it."""
        own = "kl/estimate" in row
        of = "the rule's estimate" if own else "the mean of −log π/π_ref over the answers of the pairs"
        return (
            f"the policy is {self._nats(row):.3g} nats per answer from the reference ({of}, limit {self.limit:g}) for "
            f"{self.patience} log lines by step {step}; raise β, lower `learning_rate`, train shorter, or give "
            "`beta.learning` a budget."
        )

    def _nats(self, row: Row) -> float | None:
        if "kl/estimate" in row:
            return float(row["kl/estimate"])
        if "logratios/chosen" not in row:
            return None
        return -0.5 * float(row["logratios/chosen"] + row["logratios/rejected"])


@dataclass(kw_only=True)
class PromptDrift(Watch):
    """Prompts become more or less likely while gradient flows from β into their perplexity.

    Args:
        first: log PPL of the first lines, whose mean is where it began.
    """

    name: ClassVar[str] = "prompt_drift"
    first: list[float] = field(default_factory=list[float])

    def beyond(self, row: Row) -> bool | None:
        """How far log PPL has gone against the limit, once its start is known."""
        if "prompt/log_ppl" not in row:
            return None
        if len(self.first) < self.patience:
            self.first = [*self.first, float(row["prompt/log_ppl"])]
            return None
        return abs(row["prompt/log_ppl"] - self._start) > self.limit

    def sentence(self, row: Row, step: int) -> str:
        """From where to where, and what parts the two."""
        return (
            f"log PPL of the prompts has gone from {self._start:.3g} to {row['prompt/log_ppl']:.3g} nats per token by "
            f"step {step} while gradient flows from β into it: the policy lowers its loss by the prompts, not by the "
            "answers; set `beta.couple: false`, or `beta.ppl_from: reference`."
        )

    @property
    def _start(self) -> float:
        return sum(self.first) / len(self.first)


@dataclass(kw_only=True)
class LevelDrift(Watch):
    """A level of β that moves by a rule of its own, and that nothing bounds, can go anywhere, step by step.

    Args:
        kind: of the rule.
        began: the level before the first step.
    """

    name: ClassVar[str] = "level_factor"
    speaks_once: ClassVar[bool] = False
    kind: str
    began: float

    def beyond(self, row: Row) -> bool | None:
        """Whether it has left a further power of the factor around its start."""
        level = row.get("beta/base")
        return None if level is None or not level > 0.0 else self._powers(level) > self.told

    def sentence(self, row: Row, step: int) -> str:
        """From where to where, and what holds it."""
        return (
            f"the level of β of `beta.kind: {self.kind}` has gone from {self.began:.3g} to {row['beta/base']:.3g} by "
            f"step {step}, and nothing holds it; set `beta.bounds`, or a smaller perturbation."
        )

    def look(self, row: Row, step: int) -> str | None:
        """The sentence, at every further power."""
        if not self.beyond(row):
            return None
        self.told = self._powers(row["beta/base"])
        return self.sentence(row, step)

    def _powers(self, level: float) -> int:
        return int(abs(math.log(level / self.began)) / math.log(self.limit) + 1e-9)
