"""What a method of the sequence world changes about the pairs that it is trained on, by the truth about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from datasets import Dataset

from betahead.worlds.world import WorldPair


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """Changes to the training pairs; without any they are as they were labelled.

    Args:
        clean: undo what noise turned round.
        dropped: topics whose pairs are left out; the others come so much more often, for as many steps.
        relative_beta: of every topic, for a rule that reads the column `given_beta`; empty for any other.
    """

    clean: bool = False
    dropped: frozenset[str] = frozenset()
    relative_beta: Mapping[str, float] = field(default_factory=dict[str, float])

    def training_data(self, pairs: Sequence[WorldPair]) -> Dataset:
        """The pairs of a seed with all changes."""
        kept = [pair for pair in pairs if pair.prompt.topic not in self.dropped]
        return self.data([clean_pair(pair) for pair in kept] if self.clean else kept)

    def data(self, pairs: Sequence[WorldPair]) -> Dataset:
        """Pairs as they are, with the columns that the rule reads."""
        given = self.relative_beta
        rows = [{**pair.row, **({"given_beta": given[pair.prompt.topic]} if given else {})} for pair in pairs]
        return Dataset.from_list(rows)


def clean_pair(pair: WorldPair) -> WorldPair:
    """The pair as gold orders it."""
    if not pair.flipped:
        return pair
    return WorldPair(
        prompt=pair.prompt,
        chosen=pair.rejected,
        rejected=pair.chosen,
        chosen_gold=pair.rejected_gold,
        rejected_gold=pair.chosen_gold,
        flipped=False,
    )
