"""Answers of an opened run's policy, or of its reference, to prompts of its data."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal, cast

import numpy as np
from datasets import Dataset

from betahead.data.lengths import tokens_of_rows
from betahead.data.templates import PromptRenderer
from betahead.evaluate.generate import sample_answers
from betahead.forward.model import Policy
from betahead.runs.opened import OpenedRun
from betahead.train.sizes import check_room

Who = Literal["policy", "reference"]


def drawn_prompts(records: Dataset, count: int, seed: int) -> Dataset:
    """The first record of each of `count` distinct prompts, drawn with the seed; a larger count only adds to them."""
    distinct = np.unique(np.asarray(records["prompt_id"], dtype=str), return_index=True)[1]
    return records.select(np.random.default_rng(seed).permutation(distinct)[:count])


def check_answers_fit(opened: OpenedRun, records: Dataset, max_new_tokens: int) -> None:
    """Refuse answers that would leave what the policy was trained to read.

    Raises:
        ConfigError: the longest prompt leaves less room than that.
    """
    longest = max(one.prompt for one in tokens_of_rows(records))
    check_room(opened.model.policy, longest, max_new_tokens, "--max-new-tokens")


def end_ids(opened: OpenedRun) -> tuple[int, ...]:
    """The tokens that end an answer."""
    return tuple(PromptRenderer(opened.tokenizer, opened.config.data.prompt_template).end_ids)


def answer_ids(
    opened: OpenedRun,
    who: Who,
    prompts: Dataset,
    *,
    samples: int,
    max_new_tokens: int,
    seed: int,
    batch_size: int,
) -> list[list[list[int]]]:
    """Token ids of answers sampled at temperature 1, by prompt and sample."""
    policy = opened.model.policy
    model: Policy = policy
    adapters = nullcontext()
    if who == "reference":
        if opened.reference_model is None:
            adapters = cast("Any", policy).disable_adapter()
        else:
            model = cast("Policy", opened.reference_model)
    with adapters:
        return sample_answers(
            model,
            opened.tokenizer,
            cast("list[list[int]]", list(prompts["prompt_ids"])),
            samples=samples,
            max_new_tokens=max_new_tokens,
            seed=seed,
            eos_token_ids=end_ids(opened),
            batch_size=batch_size,
        )


def text_of(opened: OpenedRun, answer: Sequence[int]) -> str:
    """An answer as text, without special tokens."""
    return str(opened.tokenizer.decode(list(answer), skip_special_tokens=True))
