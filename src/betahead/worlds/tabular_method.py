"""A method as it is compared in tabular worlds: how it sets β, which pairs it reads, and where its runs end."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from betahead.worlds.outcome import Axis, WorldMethod
from betahead.worlds.tabular import TabularWorld
from betahead.worlds.tabular_learning import BetaLearning, HeldBeta
from betahead.worlds.tabular_oracles import Oracle
from betahead.worlds.tabular_pairs import TabularPairs
from betahead.worlds.tabular_registered import RegisteredRule
from betahead.worlds.tabular_runs import Runs
from betahead.worlds.tabular_settings import TabularSettings

Setting = BetaLearning | RegisteredRule
"""How β is set: in ways that only tabular worlds know, or by a rule of the package."""

Values = Mapping[str, Float[Tensor, " configs"]]
"""A configuration's numbers by name: `learning_rate`, `beta` and the method's own axes."""

SHARED_AXES = (Axis(name="learning_rate", low=0.003, high=0.3), Axis(name="beta", low=0.01, high=1.0))
"""What every method is tuned over; `beta` is where β starts, on average over the prompts."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What a method may read beyond pairs: the world, and its oracle. Methods that do so say `needs_truth`."""

    world: TabularWorld
    oracle: Oracle


def _held(values: Values, planted: Planted) -> Setting:
    return HeldBeta()


def _as_sampled(world: TabularWorld, pairs: TabularPairs) -> TabularPairs:
    return pairs


def _its_own(settings: TabularSettings, oracle: Oracle) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class TabularMethod:
    """A row of the table of methods.

    Args:
        described: what a plan may know of it.
        learning: how β is set, for the values of all configurations.
        lean: what is added to log β of each prompt of the world, or None.
        weight: how much each prompt's pairs count, or None.
        level: factor on the configuration's `beta`.
        pairs: the pairs that are read, made from those of the world.
        of_batch: whether β belongs to the batch, so that prompts have none of their own.
        stopped: whether a run ends at the checkpoint that is best on the prompts of selection.
        tempered: whether σ(β·h) is read with one temperature, fitted on the pairs of the prompts of selection.
        settings: of a rule or loss of the package, beyond its β.
        bonus: added to every prompt's reward and win rate; a device for testing comparisons.
        same_as: the name of the method whose very runs these are, given what is planted; None where they are its own.
    """

    described: WorldMethod
    learning: Callable[[Values, Planted], Setting] = _held
    lean: Callable[[Planted], Float[Tensor, "seeds prompts"]] | None = None
    weight: Callable[[Planted], Float[Tensor, "seeds prompts"]] | None = None
    level: float = 1.0
    pairs: Callable[[TabularWorld, TabularPairs], TabularPairs] = _as_sampled
    of_batch: bool = False
    stopped: bool = False
    tempered: bool = False
    bonus: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    same_as: Callable[[TabularSettings, Oracle], str | None] = _its_own

    def runs(self, values: Values, planted: Planted) -> Runs:
        """The stack of runs of all configurations."""
        configs, train = values["beta"].shape[0], planted.world.splits["train"]
        lean, weight = (
            None if given is None else given(planted)[:, None, train].expand(-1, configs, -1)
            for given in (self.lean, self.weight)
        )
        log_beta = (self.level * values["beta"]).log()[None, :, None]
        return Runs(log_beta, values["learning_rate"], weight=weight, lean=lean)

    def to_dict(self) -> dict[str, Any]:
        """What the row declares, as plain values; the code behind it is named by the version of the package."""
        row = {name: getattr(self, name) for name in ("level", "of_batch", "stopped", "tempered", "bonus")}
        return {**asdict(self.described), **row}
