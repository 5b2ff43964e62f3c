import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from betahead.train.metrics import PairMetrics

pair = st.fixed_dictionaries(
    {
        "beta": st.floats(0.015625, 2, width=32),
        "margin": st.floats(-20, 20, width=32),
        "chosen_rewards": st.floats(-5, 5, width=32),
        "rejected_rewards": st.floats(-5, 5, width=32),
        "chosen_logps": st.floats(-90, 0, width=32),
        "rejected_logps": st.floats(-90, 0, width=32),
        "penalty": st.floats(0, 3, width=32),
        "log_ppl": st.floats(0.015625, 9, width=32),
    }
)
batches = st.lists(st.lists(pair, min_size=1, max_size=5), min_size=1, max_size=4)


def shown(pairs: list[dict[str, float]]) -> dict[str, Tensor]:
    return {name: torch.tensor([row[name] for row in pairs]) for name in pairs[0]}


def one_rank(values: Tensor) -> Tensor:
    return values


@given(batches)
def test_the_line_holds_the_means_over_all_pairs_since_the_last_one(batches: list[list[dict[str, float]]]) -> None:
    metrics = PairMetrics((0.015625, 2.0))
    for batch in batches:
        metrics.add(shown(batch))
    found = metrics.reduce(one_rank)
    rows = [row for batch in batches for row in batch]

    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(rows)

    betas = [row["beta"] for row in rows]
    wanted = {
        "rewards/chosen": mean([row["chosen_rewards"] for row in rows]),
        "rewards/rejected": mean([row["rejected_rewards"] for row in rows]),
        "rewards/margins": mean([row["chosen_rewards"] - row["rejected_rewards"] for row in rows]),
        "rewards/accuracies": mean([float(row["chosen_rewards"] > row["rejected_rewards"]) for row in rows]),
        "logps/chosen": mean([row["chosen_logps"] for row in rows]),
        "logps/rejected": mean([row["rejected_logps"] for row in rows]),
        "logratios/chosen": mean([row["chosen_rewards"] / row["beta"] for row in rows]),
        "logratios/rejected": mean([row["rejected_rewards"] / row["beta"] for row in rows]),
        "margins/nats": mean([row["margin"] for row in rows]),
        "penalty/mean": mean([row["penalty"] for row in rows]),
        "prompt/log_ppl": mean([row["log_ppl"] for row in rows]),
        "beta/mean": mean(betas),
        "beta/min": min(betas),
        "beta/max": max(betas),
        "beta/level": math.exp(mean([math.log(beta) for beta in betas])),
        "beta/std": math.sqrt(mean([(beta - mean(betas)) ** 2 for beta in betas])),
        "beta/at_bound": mean([float(beta <= 0.015625 * (1 + 1e-6) or beta >= 2 * (1 - 1e-6)) for beta in betas]),
    }
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=2e-6), name


@given(batches)
def test_ranks_are_weighed_by_their_pairs(batches: list[list[dict[str, float]]]) -> None:
    together = PairMetrics(None)
    ranks = [PairMetrics(None) for _ in batches]
    for rank, batch in zip(ranks, batches, strict=True):
        rank.add(shown(batch))
        together.add(shown(batch))
    parts: list[list[Tensor]] = []
    for rank in ranks[1:]:
        seen: list[Tensor] = []
        rank.reduce(lambda values, seen=seen: (seen.append(values), values)[1])
        parts.append(seen)
    queue = iter(zip(*parts, strict=True)) if parts else iter(())
    found = ranks[0].reduce(lambda values: torch.cat([values, *next(queue, ())]))
    assert found == pytest.approx(together.reduce(one_rank), rel=1e-9)


def test_nothing_since_the_last_line_is_nothing_to_say() -> None:
    metrics = PairMetrics(None)
    assert metrics.reduce(one_rank) == {}
    row = dict.fromkeys(("beta", "margin", "chosen_rewards", "rejected_rewards", "chosen_logps"), 1.0)
    metrics.add(shown([row | {"rejected_logps": -1.0, "penalty": 0.0}]))
    assert "prompt/log_ppl" not in metrics.reduce(one_rank)
    assert metrics.reduce(one_rank) == {}


def test_a_small_spread_around_a_large_mean_is_not_lost() -> None:
    metrics = PairMetrics(None)
    row = dict.fromkeys(("margin", "chosen_rewards", "rejected_rewards", "chosen_logps", "rejected_logps"), 0.0)
    metrics.add(shown([row | {"beta": beta, "penalty": 0.0} for beta in (1000.0, 1000.5)]))
    assert metrics.reduce(one_rank)["beta/std"] == pytest.approx(0.25, rel=1e-6)


def test_scalars_of_the_rule_are_read_with_the_rest_and_are_no_sums() -> None:
    metrics = PairMetrics(None)
    row = dict.fromkeys(("beta", "margin", "chosen_rewards", "rejected_rewards", "chosen_logps", "rejected_logps"), 1.0)
    for _ in range(3):
        metrics.add(shown([row | {"penalty": 0.0}]))
    found = metrics.reduce(lambda t: torch.cat([t, t]), {"beta/w": torch.tensor(0.25), "p": torch.tensor([2.0])})
    assert (found["beta/w"], found["p"]) == (0.25, 2.0)
    assert found["rewards/chosen"] == found["beta/mean"] == 1.0
    assert metrics.reduce(one_rank, {"beta/w": torch.tensor(0.25)}) == {}


def test_a_rank_without_a_pair_adds_nothing_and_takes_part() -> None:
    row = dict.fromkeys(("beta", "margin", "chosen_rewards", "rejected_rewards", "chosen_logps"), 0.5)
    pairs = shown([row | {"rejected_logps": -1.0, "penalty": 0.0}] * 2)
    alone, other, none = PairMetrics(None), PairMetrics(None), PairMetrics(None)
    alone.add(pairs)
    other.add(pairs)
    none.add({name: values[:0] for name, values in pairs.items()})
    assert none._sums is not None and none._least is not None
    given = torch.cat([none._sums, none._least.double()]).unsqueeze(0)
    found = other.reduce(lambda values: torch.cat([values, given]))
    assert found == pytest.approx(alone.reduce(one_rank))
