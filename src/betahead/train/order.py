"""The order of training pairs by length: whole steps of like lengths, shuffled, a function of seed and epoch."""

import random
from collections.abc import Callable, Iterator, Sequence

from torch.utils.data import Sampler

_BLOCK = 50
"""Steps that are sorted together: more make steps more alike in length and the order less random."""


def grouped_order(lengths: Sequence[int], step: int, *, seed: int, epoch: int) -> list[int]:
    """A permutation of the rows in which every `step` consecutive ones have like lengths.

    The rows are shuffled, cut into blocks of whole steps (at least four blocks, of at most 50 steps), sorted by length
    within a block and cut into steps, and the steps are shuffled. So which rows meet is random, and length says nothing
    about when a row comes. The rows of the short last step are drawn at random. In the first epoch the step with the
    longest row comes first, so that too little memory shows at once.

    Args:
        lengths: of every row.
        step: pairs of an optimizer step over all ranks, ≥ 1. The order does not depend on how they are cut into
            micro-batches or passes; within a step the longest come first, so ranks get neighbours.
        seed: and
        epoch: all that randomness depends on.
    """
    rng = random.Random(f"{seed}/{epoch}")
    rows = list(range(len(lengths)))
    rng.shuffle(rows)
    whole = len(rows) // step * step
    block = step * max(1, min(len(rows) // (4 * step), _BLOCK))
    steps: list[list[int]] = []
    for start in range(0, whole, block):
        longest_first = sorted(rows[start : min(start + block, whole)], key=lengths.__getitem__, reverse=True)
        steps += [longest_first[i : i + step] for i in range(0, len(longest_first), step)]
    rng.shuffle(steps)
    if epoch == 0 and steps:
        steps.insert(0, steps.pop(max(range(len(steps)), key=lambda i: lengths[steps[i][0]])))
    return [row for one in steps for row in one] + rows[whole:]


class GroupedSampler(Sampler[int]):
    """Yields `grouped_order`, anew for every epoch.

    Args:
        lengths: of every row.
        step: pairs of an optimizer step over all ranks.
        seed: of the shuffle.
        epoch: says which epoch begins. It is asked, not told by `set_epoch`, because the wrappers that skip the batches
            of a resumed epoch on several ranks do not pass that on.
    """

    def __init__(self, lengths: Sequence[int], step: int, *, seed: int, epoch: Callable[[], int]) -> None:
        self.lengths = lengths
        self.step = step
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(grouped_order(self.lengths, self.step, seed=self.seed, epoch=self.epoch()))
