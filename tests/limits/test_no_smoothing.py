"""Losses that take label noise into account are DPO when there is none."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from betahead.losses.links import robust, sigmoid

margins = st.lists(st.floats(-50, 50), min_size=1, max_size=5)


@given(margins)
def test_robust_and_smoothed_sigmoid_are_dpo_without_noise(values: list[float]) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    dpo = -torch.nn.functional.logsigmoid(z)
    for link in (sigmoid, robust):
        assert torch.equal(link(z, torch.ones_like(z), label_smoothing=0.0), dpo)
        torch.testing.assert_close(link(z, torch.ones_like(z), label_smoothing=1e-9), dpo, rtol=1e-6, atol=1e-6)


@given(margins, st.floats(0.01, 0.45))
def test_the_robust_loss_is_unbiased_under_flips(values: list[float], e: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    ones = torch.ones_like(z)
    expected = (1 - e) * robust(z, ones, label_smoothing=e) + e * robust(-z, ones, label_smoothing=e)
    torch.testing.assert_close(expected, -torch.nn.functional.logsigmoid(z), rtol=1e-9, atol=1e-9)


@given(margins, st.floats(0.01, 0.45))
def test_the_smoothed_sigmoid_is_the_expected_loss_under_flips(values: list[float], e: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    ones = torch.ones_like(z)
    expected = (1 - e) * sigmoid(z, ones) + e * sigmoid(-z, ones)
    torch.testing.assert_close(sigmoid(z, ones, label_smoothing=e), expected)
