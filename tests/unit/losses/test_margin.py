import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from betahead.losses.margin import logratios
from betahead.types import PairLogps, ReferenceScores

row = st.tuples(*[st.floats(-200, 0)] * 4, *[st.integers(0, 40)] * 2)


def scores(rows: list[tuple[float, ...]]) -> tuple[PairLogps, ReferenceScores]:
    pc, pr, rc, rr, nc, nr = zip(*rows, strict=True)
    policy = PairLogps(
        chosen=torch.tensor(pc),
        rejected=torch.tensor(pr),
        chosen_tokens=torch.tensor(nc),
        rejected_tokens=torch.tensor(nr),
    )
    return policy, ReferenceScores(chosen_logps=torch.tensor(rc), rejected_logps=torch.tensor(rr))


@given(st.lists(row, min_size=1, max_size=5), st.booleans())
def test_log_ratios_are_differences_per_answer_or_per_token(rows: list[tuple[float, ...]], per_token: bool) -> None:
    chosen, rejected = logratios(*scores(rows), per_token=per_token)
    for i, (pc, pr, rc, rr, nc, nr) in enumerate(rows):
        c, r = (max(nc, 1), max(nr, 1)) if per_token else (1, 1)
        assert chosen[i].item() == pytest.approx((pc - rc) / c, rel=1e-4, abs=1e-4)
        assert rejected[i].item() == pytest.approx((pr - rr) / r, rel=1e-4, abs=1e-4)


def test_both_are_exactly_zero_where_the_policy_is_the_reference() -> None:
    policy, _ = scores([(-3.3, -7.1, 0.0, 0.0, 4, 9)])
    same = ReferenceScores(chosen_logps=policy.chosen, rejected_logps=policy.rejected)
    for per_token in (False, True):
        assert [ratio.item() for ratio in logratios(policy, same, per_token=per_token)] == [0.0, 0.0]


def test_without_a_reference_it_is_the_policys_own_log_probability() -> None:
    policy, _ = scores([(-3.0, -8.0, -1.0, -1.0, 3, 4)])
    assert [side.item() for side in logratios(policy, None)] == [-3.0, -8.0]
    assert [side.item() for side in logratios(policy, None, per_token=True)] == [-1.0, -2.0]
