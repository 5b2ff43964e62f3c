"""The oracles of the named worlds: β(x) and the choice of pairs that a search with the truth in hand found.

The search takes minutes, so what it found is kept in `oracles.json`. `python -m betahead.worlds.tabular_oracles` makes
that file again, for the worlds that are named or for all; with the one word `table` it shows what is there.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor

from betahead.worlds.named import NAMED_WORLDS, named_world
from betahead.worlds.tabular_runs import COMPARED
from betahead.worlds.tabular_truth import Headroom, Search, headroom

Push = Literal["beta", "even"]

SEARCH = Search(
    betas=(0.03, 0.1, 0.3, 1.0),
    learning_rates=(0.01, 0.04, 0.16),
    budget=25,
    search_seeds=tuple(range(200, 212)),
    fresh_seeds=tuple(range(1000, 1024)),
    training=COMPARED,
)
"""Seeds below 1000 belong to searches; whatever is reported comes from seeds from 1000 on."""

_FILE = "oracles.json"


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """What is best in a world, as far as a search can tell.

    Args:
        multiplier: of β for each topic; geometric mean 1.
        push: whether β(x) also scales the first push on a pair (`beta`), or only sets where it stops (`even`).
        dropped: whether the weight oracle drops the pairs of a topic.
    """

    multiplier: tuple[float, ...]
    push: Push
    dropped: tuple[bool, ...]


def oracle_of(world: str) -> Oracle:
    """The oracle of a named world.

    Raises:
        ConfigError: no world has that name.
    """
    named_world(world)
    found = recorded()[world]
    return Oracle(multiplier=tuple(found["multiplier"]), push=found["push"], dropped=tuple(found["dropped"]))


@cache
def recorded() -> dict[str, dict[str, Any]]:
    """What `oracles.json` holds, by world: the oracle, the headroom on fresh seeds, and what was searched."""
    return json.loads(files("betahead.worlds").joinpath(_FILE).read_text(encoding="utf-8"))


def searched(world: str, search: Search = SEARCH) -> dict[str, Any]:
    """Search for the oracle of a named world with both pushes, and measure the better one on fresh seeds.

    Which push is better is decided on the seeds of the search, like everything else about the oracle.
    """
    settings = named_world(world)
    pushes: tuple[Push, ...] = ("beta", "even")
    found = {push: headroom(settings, replace(search, push=push)) for push in pushes}
    push = max(pushes, key=lambda push: _searched_gain(found[push]))
    best = found[push]
    return {
        "multiplier": _rounded(best.multiplier),
        "push": push,
        "dropped": list(best.dropped),
        "kl": _rounded(best.targets),
        "fixed": _rounded(best.fixed.nanmean(0)),
        "oracle_gain": _gain(best, "oracle"),
        "weight_oracle_gain": _gain(best, "weight_oracle"),
        "runs": sum(one.runs for one in found.values()),
        "settings": asdict(settings),
        "search": asdict(search) | {"push": pushes},
    }


def _searched_gain(found: Headroom) -> float:
    reached = found.search_fixed.reached
    return float((found.search_oracle.best - found.search_fixed.best)[reached].mean())


def _gain(found: Headroom, by: Literal["oracle", "weight_oracle"]) -> list[list[float | None]]:
    mean, error = found.won(by)
    return [list(pair) for pair in zip(_rounded(mean), _rounded(error), strict=True)]


def _rounded(values: Tensor) -> list[float | None]:
    """To five digits; None where there is no number, which JSON lacks."""
    return [float(f"{value:.5g}") if abs(value) < float("inf") else None for value in values.tolist()]


def headroom_table() -> str:
    """What the oracles win over tuned fixed β at the same KL, on seeds that no search saw, as Markdown.

    In percent of what fixed β wins over the reference's mean gold of about 0, at the three KL of the world, with the
    standard error of the paired gain.
    """
    lines = ["| world | β of the topics, relative | push | oracle β(x), % | pairs dropped of | weight oracle, % |"]
    lines.append("|---|---|---|---|---|---|")
    for name, found in recorded().items():
        multiplier = " · ".join(f"{value:.2f}" for value in found["multiplier"])
        dropped = ", ".join(str(number + 1) for number, drop in enumerate(found["dropped"]) if drop) or "none"
        oracle, weight = (_percent(found[by], found["fixed"]) for by in ("oracle_gain", "weight_oracle_gain"))
        lines.append(f"| {name} | {multiplier} | {found['push']} | {oracle} | {dropped} | {weight} |")
    return "\n".join(lines)


def _percent(gains: list[list[float | None]], fixed: list[float | None]) -> str:
    shown: list[str] = []
    for (gain, error), level in zip(gains, fixed, strict=True):
        if gain is None or error is None or level is None:
            shown.append("not reached")
        else:
            shown.append(f"{100 * gain / level:+.1f} ± {100 * error / level:.1f}")
    return " · ".join(shown)


def main(worlds: Sequence[str]) -> None:
    """Search the named worlds (all of them by default) and write what was found into `oracles.json`.

    Raises:
        ConfigError: no world has one of these names.
    """
    if list(worlds) == ["table"]:
        print(headroom_table())
        return
    for world in worlds:
        named_world(world)
    path = Path(cast("Any", files("betahead.worlds").joinpath(_FILE)))
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for world in worlds or list(NAMED_WORLDS):
        kept[world] = searched(world)
        lines = [f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in NAMED_WORLDS if name in kept]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        print(world, {name: kept[world][name] for name in ("multiplier", "push", "dropped", "kl", "oracle_gain")})


if __name__ == "__main__":
    main(sys.argv[1:])
