"""What a comparison asks of a world: its methods, what they are tuned over, and what trained policies are worth."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptTopics:
    """Which topic each scored prompt has, and how noisy the labels of each topic are planted to be."""

    of_prompt: Int[np.ndarray, " prompts"]
    label_noise: tuple[float, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What trained policies are worth, per configuration, seed, checkpoint and prompt, on one split.

    Args:
        reward: gold of each prompt: expected, or the mean over samples.
        kl: KL to the reference of each prompt, nats per answer.
        win_rate: chance to beat an answer of the reference.
        finite: False for a run that diverged; its numbers are kept as they are, so that they count against its method.
        checkpoints: shares of training after which policies are scored; 0.0, the reference itself, comes first.
        same_prompts: whether every seed is scored on the same prompts (sequence world); False where each seed is a
            world of its own (tabular), so that prompts are nested in seeds.
        log_beta: mean log β per topic at the end of training, or None where there is none.
        dev: mean reward and KL on the prompts of selection, for a method that is stopped where those are best; None for
            one that trains to its end.
        seconds: wall time of the call.
        measures: further quantities by their name in `betahead.worlds.measures.MEASURES`; a world leaves out what it
            does not have. nan where a run has no number.
        topics: of the prompts, where the world knows them.
    """

    reward: Float[np.ndarray, "configs seeds checkpoints prompts"]
    kl: Float[np.ndarray, "configs seeds checkpoints prompts"]
    win_rate: Float[np.ndarray, "configs seeds checkpoints prompts"]
    finite: Bool[np.ndarray, "configs seeds"]
    checkpoints: tuple[float, ...]
    same_prompts: bool
    log_beta: Float[np.ndarray, "configs seeds topics"] | None
    seconds: float
    dev: Float[np.ndarray, "configs seeds checkpoints two"] | None = None
    measures: Mapping[str, Float[np.ndarray, "configs seeds checkpoints"]] = field(
        default_factory=dict[str, np.ndarray]
    )
    topics: PromptTopics | None = None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A hyper-parameter of a method and the range it is drawn from, on a logarithmic scale unless `log` is False."""

    name: str
    low: float
    high: float
    log: bool = True


@dataclass(frozen=True, kw_only=True)
class WorldMethod:
    """A method as a world runs it.

    Args:
        name: by which plans call it.
        parent: the method that it contains as a special case, or None.
        placebo: the method that has the same β but for other prompts, or None.
        axes: its own knobs beyond the shared axes `learning_rate` and `beta`.
        needs_truth: whether it reads what is planted: an oracle or a control, never a contender.
        summary: one line for tables.
    """

    name: str
    parent: str | None
    placebo: str | None
    axes: tuple[Axis, ...]
    needs_truth: bool = False
    summary: str

    def control(self, kind: str, summary: str) -> "WorldMethod":
        """A control of this method, with its knobs.

        Args:
            kind: of the control.
            summary: with `{}` in the place of the method's name.
        """
        return replace(
            self, name=f"{kind}:{self.name}", parent="fixed", placebo=None, summary=summary.format(self.name)
        )


class MethodWorld(Protocol):
    """A world in which methods can be compared."""

    @property
    def name(self) -> str:
        """Name by which plans and reports call the world."""
        ...

    def methods(self) -> Mapping[str, WorldMethod]:
        """The methods that it runs, by name."""
        ...

    def kl_targets(self) -> tuple[float, ...]:
        """The KL at which gold is compared: from the world's truth, fixed before anything is trained."""
        ...

    def fingerprint(self) -> Mapping[str, Any]:
        """All settings that a run's numbers depend on beyond its configuration, as plain values of JSON.

        A plan's hash covers it, so that results of a world that was changed are never taken for those of the plan.
        """
        ...

    def run(
        self,
        method: str,
        configurations: Sequence[Mapping[str, float]],
        seeds: Sequence[int],
        *,
        split: Literal["eval", "test"],
    ) -> Outcome:
        """Train every configuration with every seed, and score them on the prompts of the split.

        Args:
            method: a name of `methods()`.
            configurations: `learning_rate`, `beta` and the method's own axes, each by name.
            seeds: of the runs; the same seed is the same run whatever runs beside it.
            split: `eval` for selection, `test` for the number that is reported.

        Raises:
            ConfigError: an unknown method, or a configuration with other keys than the method's axes.
        """
        ...


@runtime_checkable
class Registering(Protocol):
    """A world that also runs the rules and losses of the package, as far as it can."""

    def declared(self, methods: Collection[str]) -> Mapping[str, Any]:
        """What those of these methods declare that the fingerprint leaves out, so that others change no hash."""
        ...

    def why_not(self, method: str) -> str | None:
        """The end of a sentence that refuses a method, where its name says what it would be; otherwise None."""
        ...


def fingerprint_of(world: MethodWorld, methods: Collection[str]) -> Mapping[str, Any]:
    """The fingerprint of a world as these methods run in it."""
    named = world.declared(methods) if isinstance(world, Registering) else {}
    return {**world.fingerprint(), **({"registered": named} if named else {})}


def why_not_in(world: MethodWorld, method: str) -> str | None:
    """Why a world has no such method, or None."""
    return world.why_not(method) if isinstance(world, Registering) else None
