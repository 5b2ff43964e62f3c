"""What was to be reached, as data, and whether it was."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.spread import ratio, seconds_a_step, spread

Results = Mapping[str, Any]
Figure = Callable[[Results], float | None]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on one figure.

    Args:
        title: the figure in words.
        bound: the number to reach.
        side: `least` when the figure must not be below the bound, `most` when it must not be above.
        figure: computes it from the results; None when the results do not hold what it needs.
    """

    title: str
    bound: float
    side: Literal["least", "most"]
    figure: Figure

    def verdict(self, results: Results) -> dict[str, Any]:
        """The figure and whether it reaches the bound: `reached`, `missed` or `not measured`."""
        found = self.figure(results)
        if found is None:
            status = "not measured"
        else:
            reached = found >= self.bound if self.side == "least" else found <= self.bound
            status = "reached" if reached else "missed"
        return {"title": self.title, "bound": self.bound, "side": self.side, "figure": found, "status": status}


def median_ratio(geometry: str, ours: str, theirs: str, figure: str) -> Figure:
    """The median over rounds of a ratio between two arms."""

    def found(results: Results) -> float | None:
        value = ratio(results["runs"], geometry, ours, theirs, figure)
        return None if value is None else value["median"]

    return found


def dearer_than_counted(geometry: str, learned: str, fixed: str) -> Figure:
    """By how much more a learned β raises the step's time than its counted operations say, as a share of the step."""

    def found(results: Results) -> float | None:
        time = ratio(results["runs"], geometry, learned, fixed, "time")
        if time is None:
            return None
        return time["median"] - 1 - extra_flops(results, geometry, learned)

    return found


def dearer(geometry: str, learned: str, fixed: str) -> Figure:
    """By how much a learned β raises the step's time, as a share of the step."""
    time = median_ratio(geometry, learned, fixed, "time")

    def found(results: Results) -> float | None:
        value = time(results)
        return None if value is None else value - 1

    return found


def extra_flops(results: Results, geometry: str, arm: str) -> float:
    """The learned β's counted operations as a share of the rest of the step's."""
    counted = results["flops"][geometry][arm]
    return counted["learned"] / (counted["total"] - counted["learned"])


def off_the_line(results: Results) -> float | None:
    """The longest time a pair over the shortest, minus 1, at 8, 16 and 32 pairs a step."""
    by_size = {
        size: [seconds_a_step(run) / size for run in results["runs"] if run["geometry"] == f"d-pairs-{size}"]
        for size in (8, 16, 32)
    }
    if not all(by_size.values()):
        return None
    per_pair = [spread(values)["median"] for values in by_size.values()]
    return max(per_pair) / min(per_pair) - 1


def memory_growth(results: Results) -> float | None:
    """Spread of the peak memory beyond weights, gradients and optimizer state over vocabularies, over the smallest."""
    beyond = [
        spread([run["peak_bytes"] - run["state_bytes"] for run in runs])["median"]
        for vocab in (8_000, 32_000, 152_000)
        if (runs := [run for run in results["runs"] if run["geometry"] == f"d-vocab-{vocab}"])
    ]
    return max(beyond) / min(beyond) - 1 if len(beyond) == 3 else None


def share_of_matmul(geometry: str, arm: str) -> Figure:
    """Counted operations per second over the measured matmul rate, the larger of the two rates."""

    def found(results: Results) -> float | None:
        share = results["roofline"].get(geometry, {}).get(arm)
        return None if share is None else share["share_of_larger_rate"]

    return found


TARGETS: tuple[Target, ...] = (
    Target(
        title="(a) pairs/s over TRL default",
        bound=15,
        side="least",
        figure=median_ratio("a-hh", "fixed", "trl-default", "speed"),
    ),
    Target(
        title="(a) pairs/s over TRL's best settings, same grouped batches",
        bound=10,
        side="least",
        figure=median_ratio("a-hh", "fixed-grouped", "trl-best", "speed"),
    ),
    Target(
        title="(a) peak memory over TRL default",
        bound=0.3,
        side="most",
        figure=median_ratio("a-hh", "fixed", "trl-default", "memory"),
    ),
    Target(
        title="(a) peak memory over TRL's best settings",
        bound=0.3,
        side="most",
        figure=median_ratio("a-hh", "fixed-grouped", "trl-best", "memory"),
    ),
    Target(
        title="(c) pairs/s over our plain road",
        bound=1.6,
        side="least",
        figure=median_ratio("c-512-64-64", "fixed", "plain", "speed"),
    ),
    *(
        target
        for key, geometry in (("a", "a-hh"), ("c", "c-512-64-64"))
        for target in (
            Target(
                title=f"({key}) learned β beyond its counted operations, share of a fixed-β step",
                bound=0.03,
                side="most",
                figure=dearer_than_counted(geometry, "learned-policy", "fixed"),
            ),
            Target(
                title=f"({key}) learned β from the reference's PPL, share of a fixed-β step",
                bound=0.02,
                side="most",
                figure=dearer(geometry, "learned-reference", "fixed"),
            ),
        )
    ),
    Target(title="(d) time off the line in pairs", bound=0.10, side="most", figure=off_the_line),
    Target(
        title="(d) growth of memory beyond weights, gradients, optimizer: vocabulary 8k to 152k",
        bound=0.10,
        side="most",
        figure=memory_growth,
    ),
    Target(
        title="(e) share of the matmul rate",
        bound=0.55,
        side="least",
        figure=share_of_matmul("e-12x1024", "fixed"),
    ),
    # Why `forward.kind: auto` shares whatever the ratio of tokens: what is not padded and not scored counts too.
    Target(
        title="(f) pairs/s over our plain road where prompts are 2 % of the tokens",
        bound=1.0,
        side="least",
        figure=median_ratio("f-short-prompts", "fixed", "plain", "speed"),
    ),
)


def verdicts(results: Results, targets: Sequence[Target]) -> list[dict[str, Any]]:
    """One verdict per target."""
    return [target.verdict(results) for target in targets]
