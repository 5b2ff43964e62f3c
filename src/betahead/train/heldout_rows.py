"""Which training pairs are held out for β, and which of them an estimate reads."""

import random
from functools import lru_cache

from datasets import Dataset

from betahead.beta.heldout import HeldOut
from betahead.data.splits import split_by_prompt
from betahead.errors import DataError


def held_apart(dataset: Dataset | None, held_out: HeldOut | None, seed: int) -> tuple[Dataset | None, Dataset | None]:
    """The pairs to train on, and those that β is to follow; no prompt has pairs in both.

    Args:
        dataset: tokenized training pairs, or None.
        held_out: how the rule learns from held-out pairs, or None when it does not.
        seed: another seed holds out other prompts.

    Returns:
        (to train on, held out); what was given and None for a rule that needs none, or without pairs.

    Raises:
        DataError: for pairs of a single prompt.
    """
    if dataset is None or held_out is None:
        return dataset, None
    if len(prompts := set(dataset["prompt_id"])) < 2:
        raise DataError(
            "`train_dataset` must hold pairs of at least two prompts with learning.kind: heldout, one of them to be "
            f"held out, but holds pairs of {len(prompts)} instead; give more data."
        )
    return split_by_prompt(dataset, held_out.share, seed)


def rows_of_estimate(rows: int, wanted: int, estimate: int, *, seed: int) -> list[int]:
    """The rows that an estimate reads: every row comes once before any comes twice, in an order of its own each time.

    It is a function of its arguments, so a resumed training reads what an uninterrupted one would.

    Args:
        rows: how many there are, at least 1.
        wanted: how many to read; all when there are fewer.
        estimate: its number, from 0.
        seed: of the order.
    """
    count = min(wanted, rows)
    turn, at = divmod(estimate * count, rows)
    return [*_order(rows, turn, seed), *_order(rows, turn + 1, seed)][at : at + count]


@lru_cache(maxsize=2)
def _order(rows: int, turn: int, seed: int) -> tuple[int, ...]:
    order = list(range(rows))
    random.Random(f"held out/{seed}/{turn}").shuffle(order)
    return tuple(order)
