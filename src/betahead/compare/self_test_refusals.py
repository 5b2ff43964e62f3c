"""Plans that must be refused, each tried as it would be given."""

from collections.abc import Iterator
from dataclasses import dataclass

from betahead.compare.plan import load_plan
from betahead.compare.resolved import resolve
from betahead.errors import ConfigError
from betahead.worlds.tabular_methods import tabular_method_world

_PLAN = """
name: self-test
question: Is anything wrong with this plan?
cells: [tabular/half_noise]
methods:
  fixed: {}
  fixed_early: {include: [{learning_rate: RATE, beta: 0.1}]}
axes:
  learning_rate: {low: 0.003, high: 0.3}
  beta: {low: 0.01, high: 1.0}
finals: {seeds: FINALS}
rope: 0.01
comparisons:
  - {a: fixed_early, b: fixed}
"""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What was said to a plan that must be refused.

    Args:
        name: in words.
        because: what a refusal for the right reason holds.
        said: the refusal, or that there was none.
    """

    name: str
    because: str
    said: str


def refusals() -> Iterator[Refusal]:
    """A configuration outside its space, and too few finals."""
    for name, rate, finals, because in (
        ("a configuration outside its space is refused", "3.0", "20", "declared space"),
        ("a plan with too few finals for its tests is refused", "0.03", "5", "at least 6"),
    ):
        text, said = _PLAN.replace("RATE", rate).replace("FINALS", finals), "it was not"
        try:
            resolve(load_plan(text), lambda cell: tabular_method_world(cell.partition("/")[2]))
        except ConfigError as error:
            said = str(error)
        yield Refusal(name=name, because=because, said=said)
