"""What a comparison's evidence.json holds, read without trust: a table that is not there is an empty one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from betahead.compare.comparison import EVIDENCE
from betahead.report.numbers import finite
from betahead.report.run_files import Row, at, listed, mapped, without_secrets

PLACEBO = "permuted:"

_PROMINENT = 6
_NAMES = frozenset({"cell", "method", "a", "b", "measure", "metric", "verdict", "sentence"})
_NUMBERS = frozenset({"kl", "reward", "noise", "beta"})


@dataclass(frozen=True, kw_only=True)
class EvidenceFile:
    """The evidence of a comparison as far as its file tells.

    Args:
        path: of the folder.
        values: of evidence.json, without secrets; empty where it could not be read.
        broken: why it could not.
    """

    path: Path
    values: Row
    broken: str = ""

    def rows(self, table: str, *keys: str) -> list[Row]:
        """The rows of a table of `panels`, or of the evidence itself, that have all keys with values of their kind."""
        found = at(self.values, "panels", table)
        found = self.values.get(table) if found is None else found
        rows = [cast("Row", row) for row in listed(found) if isinstance(row, dict)]
        return [row for row in rows if all(key in row and _fits(key, row[key]) for key in keys)]

    def text(self, key: str) -> str:
        """A text of the evidence, "" where there is none."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    @property
    def plan(self) -> Row:
        """The plan as it was resolved."""
        found = at(self.values, "plan", "plan")
        return cast("Row", found) if isinstance(found, dict) else {}

    @property
    def cells(self) -> list[str]:
        """Its cells, in the order of the plan."""
        named = self.plan.get("cells")
        named = listed(named)
        seen = [row["cell"] for row in self.rows("best_of_n", "cell")]
        return list(dict.fromkeys(str(cell) for cell in [*named, *seen]))

    @property
    def methods(self) -> list[str]:
        """Its methods, in the order of the plan."""
        named = self.plan.get("methods")
        named = list(mapped(named))
        seen = [row["method"] for row in self.rows("best_of_n", "method")]
        return list(dict.fromkeys(str(method) for method in [*named, *seen]))

    @property
    def prominent(self) -> set[str]:
        """The few methods that figures show at once, by the plan's roles and claims; the others wait for a click."""
        claims = self.rows("claims", "a", "b")
        named = [str(at(self.plan, "headroom", role)) for role in ("fixed", "oracle")]
        for kind in ("mechanism", "better", "bound"):
            named += [str(claim[side]) for claim in claims if claim.get("claim") == kind for side in ("b", "a")]
        found = [name for name in dict.fromkeys(named) if name in self.methods and not name.startswith(PLACEBO)]
        return set((found or self.methods)[:_PROMINENT])

    def number(self, method: str) -> int:
        """The place of a method in the palette: those that are seen at once come first, so that they differ most."""
        order = sorted(self.methods, key=lambda name: name not in self.prominent)
        return order.index(method)

    @property
    def metric(self) -> str:
        """The primary metric in words."""
        return self.text("metric").replace("_", " ").replace(" kl", " KL")

    @property
    def oracle(self) -> str | None:
        """The method that reads the truth of its world to set β, where the plan has one."""
        named = at(self.plan, "headroom", "oracle")
        if isinstance(named, str):
            return named
        return "oracle" if "oracle" in self.methods else None


def read_evidence(path: Path) -> EvidenceFile:
    """The evidence in a comparison's folder, or in the file itself."""
    file = path if path.is_file() else path / EVIDENCE
    folder = file.parent
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is no JSON object")
        return EvidenceFile(path=folder, values=without_secrets(values))
    except (OSError, ValueError, RecursionError) as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        return EvidenceFile(path=folder, values={}, broken=f"{file.name} cannot be read ({detail}).")


def _fits(key: str, value: Any) -> bool:
    """Whether a value is of the kind that its key promises, where figures and tables rely on it."""
    if key in _NAMES:
        return isinstance(value, str)
    if key in _NUMBERS:
        return finite(value) is not None
    if key == "n":
        return isinstance(value, int) and value > 0
    return key != "topic" or isinstance(value, int | str)


def bounds(value: Any) -> tuple[float | None, float | None, float | None]:
    """Estimate, low and high of an interval; None for what is not there."""
    return finite(at(value, "estimate")), finite(at(value, "low")), finite(at(value, "high"))
