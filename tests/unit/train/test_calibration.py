import math
import re

import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.data.collate import PairCollator
from betahead.data.passes import PassCollator
from betahead.errors import DataError
from betahead.train.calibration import Calibration, calibrate, sample_of_prompts

CPU = torch.device("cpu")


def dataset(prompts: list[str]) -> Dataset:
    return Dataset.from_dict({"prompt_id": prompts})


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30), st.integers(1, 10), st.integers(0, 5))
def test_the_sample_is_of_distinct_prompts_and_does_not_depend_on_the_order_of_rows(
    prompts: list[str], limit: int, seed: int
) -> None:
    rows = sample_of_prompts(dataset(prompts), limit, seed)
    found = [prompts[row] for row in rows]
    assert len(found) == len(set(found)) == min(limit, len(set(prompts)))
    backwards = prompts[::-1]
    assert [backwards[row] for row in sample_of_prompts(dataset(backwards), limit, seed)] == found


def run(
    rule: LearnedBeta | FixedBeta, rows: list[dict[str, object]], limit: int = 512, budget: int | None = None
) -> Calibration | None:
    collate = PairCollator(pad_token_id=0)
    return calibrate(
        tiny.qwen2(),
        rule,
        Dataset.from_list(rows),
        PassCollator(collate=collate, budget=budget, pass_tokens=collate.pass_tokens),
        limit=limit,
        seed=0,
        batch_size=3,
        device=CPU,
    )


def naive_log_ppl(rows: list[dict[str, object]]) -> list[float]:
    model = tiny.qwen2()
    found: list[float] = []
    for row in rows:
        prompt = torch.tensor([row["prompt_ids"]])
        with torch.no_grad():
            logps = model(prompt).logits.double().log_softmax(-1)
        each = [-logps[0, t - 1, prompt[0, t]].item() for t in range(1, prompt.shape[1])]
        found.append(sum(each) / len(each))
    return found


def test_the_scale_is_the_geometric_mean_over_the_prompts() -> None:
    rows = tiny.records(7)
    rule = tiny.built()
    found = run(rule, rows)
    wanted = math.exp(sum(math.log(value) for value in naive_log_ppl(rows)) / 7)
    assert found is not None
    assert found.prompts == 7
    assert found.scale == pytest.approx(wanted, rel=1e-5)
    assert rule.head.log_ppl_scale.item() == pytest.approx(wanted, rel=1e-5)
    assert found.seconds > 0


def test_a_budget_of_tokens_leaves_the_scale_alone() -> None:
    rows = tiny.records(7)
    scales = [run(tiny.built(), rows, budget=budget) for budget in (None, 1, 40)]
    assert all(found is not None and scales[0] is not None for found in scales)
    wanted = scales[0].scale if scales[0] else math.nan
    assert [found.scale for found in scales if found] == pytest.approx([wanted] * 3, rel=1e-6)


def test_at_most_the_limit_of_prompts_is_read() -> None:
    found = run(tiny.built(), tiny.records(9), limit=4)
    assert found is not None
    assert found.prompts == 4


def test_a_prompt_without_a_counted_token_does_not_count() -> None:
    rows = tiny.records(4)
    rows[2]["ppl_mask"] = [False] * len(rows[2]["ppl_mask"])
    with_it, without = tiny.built(), tiny.built()
    run(with_it, rows)
    run(without, [row for i, row in enumerate(rows) if i != 2])
    assert with_it.head.log_ppl_scale.item() == pytest.approx(without.head.log_ppl_scale.item(), rel=1e-6)


def test_nothing_is_run_for_a_rule_that_does_not_read_perplexity() -> None:
    assert run(FixedBeta(0.1), tiny.records(2)) is None
    assert run(tiny.built(ppl_exponent=0.0), tiny.records(2)) is None


def test_data_without_any_counted_token_is_refused() -> None:
    rows = tiny.records(3)
    for row in rows:
        row["ppl_mask"] = [False] * len(row["ppl_mask"])
    wanted = (
        "`data.train` must hold prompts with at least two tokens, but none of the sampled ones has a token whose "
        "probability could be read; use ppl_tokens: all or longer prompts."
    )
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        run(tiny.built(), rows)
