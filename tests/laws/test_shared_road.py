"""The shared road gives the plain road's numbers: losses, features and the gradient of every parameter."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import families
import pytest
import tiny
import torch
from torch import Tensor
from torch.nn import functional as F

from betahead.beta.rule import Need
from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.forward import kernels
from betahead.forward.roads import pair_forward
from betahead.types import PairLogps, PromptFeatures, bundled

EVERYTHING = frozenset(Need)
PLAIN, PACKED = PairCollator(pad_token_id=0), PackedCollator()
RECORDS = tiny.records(5)

Loss = Callable[[PairLogps, PromptFeatures], Tensor]


def by_pair(logps: PairLogps, features: PromptFeatures) -> Tensor:
    """A preference loss whose β is a function of the prompt, through every feature."""
    assert features.log_ppl is not None and features.has_ppl is not None
    assert features.last_hidden is not None and features.hidden is not None and features.hidden_mask is not None
    shown = features.hidden.masked_fill(~features.hidden_mask.unsqueeze(-1), 0.0).square().sum((1, 2))
    ppl = torch.where(features.has_ppl, features.log_ppl, 1.0)
    beta = 0.2 * ppl + 0.05 * features.last_hidden.sin().sum(-1) + 0.01 * shown
    margin = logps.chosen - 0.7 * logps.rejected
    return F.softplus(-beta * margin / (logps.chosen_tokens + logps.rejected_tokens))


def run(model: Any, collate: Any, *, couple: bool, needs: frozenset[Need] = EVERYTHING) -> tuple[Any, Any, Any]:
    dtype = next(model.parameters()).dtype
    with families.Wide() if dtype == torch.float64 else nullcontext():
        logps, features = pair_forward(model, bundled(collate(RECORDS)), needs, couple=couple)
        by_pair(logps, features).sum().backward()
    return logps, features, families.gradients(model)


@pytest.fixture(params=["one call over padded rows", "a call per span"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    by_row = request.param.startswith("one")
    monkeypatch.setattr(kernels, "prefers_rows", lambda *_: by_row)
    return request.param


def assert_same_numbers(found: Any, wanted: Any, tolerance: float) -> None:
    (logps, features, gradients), (plain, shown, slopes) = found, wanted
    for name in ("chosen", "rejected", "chosen_tokens", "rejected_tokens"):
        torch.testing.assert_close(getattr(logps, name), getattr(plain, name), rtol=tolerance, atol=tolerance)
    for name in ("log_ppl", "last_hidden"):
        torch.testing.assert_close(getattr(features, name), getattr(shown, name), rtol=tolerance, atol=10 * tolerance)
    assert torch.equal(features.has_ppl, shown.has_ppl)
    assert torch.equal(features.hidden_mask, shown.hidden_mask)
    states, plain_states = (one.hidden[one.hidden_mask] for one in (features, shown))
    torch.testing.assert_close(states, plain_states, rtol=tolerance, atol=10 * tolerance)
    families.assert_gradients_agree(gradients, slopes, tolerance)


@pytest.mark.parametrize("couple", [False, True], ids=["detached", "coupled"])
@pytest.mark.parametrize("name", families.FAMILIES)
def test_loss_features_and_every_gradient_equal_the_plain_roads(name: str, couple: bool, kernel: str) -> None:
    model = families.family(name).train()
    assert_same_numbers(run(model, PACKED, couple=couple), run(model, PLAIN, couple=couple), 1e-5)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_they_agree_to_rounding_in_float64(name: str, kernel: str) -> None:
    model = families.family(name).double().train()
    assert_same_numbers(run(model, PACKED, couple=True), run(model, PLAIN, couple=True), 1e-12)


def test_the_law_can_fail() -> None:
    model = families.family("mistral, window shorter than the row").double()
    wanted = run(model, PLAIN, couple=True)
    wider = families.made("mistral", sliding_window=families.WINDOW + 1, head_dim=4).double()
    with pytest.raises(AssertionError):
        assert_same_numbers(run(wider, PACKED, couple=True), wanted, 1e-5)


@pytest.mark.parametrize("needs", [frozenset(), *(frozenset({need}) for need in Need)], ids=str)
@pytest.mark.parametrize("couple", [False, True])
def test_only_what_is_asked_for_is_computed_and_gradient_flows_only_when_coupled(
    needs: frozenset[Need], couple: bool
) -> None:
    logps, features = pair_forward(tiny.qwen2(), bundled(PACKED(RECORDS)), needs, couple=couple)
    found = {Need.LOG_PPL: features.log_ppl, Need.LAST_HIDDEN: features.last_hidden, Need.HIDDEN: features.hidden}
    assert logps.chosen.requires_grad and logps.rejected.requires_grad
    for need, value in found.items():
        assert (value is not None) == (need in needs)
        assert value is None or value.requires_grad == couple


def test_a_prompt_of_one_token_and_prompts_without_counted_tokens_agree() -> None:
    records = [
        {"prompt_ids": [7], "chosen_ids": [5, 6], "rejected_ids": [9], "ppl_mask": [False]},
        {"prompt_ids": [7, 8, 9], "chosen_ids": [5], "rejected_ids": [9, 3, 4], "ppl_mask": [False] * 3},
        {"prompt_ids": [4, 8, 9], "chosen_ids": [5], "rejected_ids": [9, 3], "ppl_mask": [False, False, True]},
    ]
    model = tiny.llama()
    for chosen in ([0], [0, 1], [0, 1, 2]):
        batch = [records[i] for i in chosen]
        (plain, shown), (packed, features) = (
            pair_forward(model, bundled(collate(batch)), EVERYTHING) for collate in (PLAIN, PACKED)
        )
        torch.testing.assert_close(packed.chosen, plain.chosen)
        torch.testing.assert_close(packed.rejected, plain.rejected)
        torch.testing.assert_close(features.log_ppl, shown.log_ppl)
        assert torch.equal(features.has_ppl, shown.has_ppl)
        torch.testing.assert_close(features.last_hidden, shown.last_hidden)
