from typing import Any

import pytest
import tiny
import torch

from betahead.beta.rule import Need
from betahead.forward.roads import scores_without_gradient
from betahead.forward.separate import selected_logps, separate_forward
from betahead.types import PairBatch


class Watched(torch.nn.Module):
    """A model that remembers how it was called."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls: list[dict[str, Any]] = []

    def forward(self, **kwargs: Any) -> Any:
        self.calls.append(kwargs)
        return self.model(**kwargs)


@pytest.mark.parametrize(
    ("needs", "hidden"),
    [(set(), False), ({Need.LOG_PPL}, False), ({Need.LAST_HIDDEN}, True), ({Need.HIDDEN, Need.LOG_PPL}, True)],
    ids=lambda one: str(sorted(need.value for need in one)) if isinstance(one, set) else str(one),
)
def test_only_what_is_needed_is_computed_in_one_pass(needs: set[Need], hidden: bool) -> None:
    model = Watched(tiny.qwen2())
    _, features = separate_forward(model, PairBatch.from_dict(tiny.batch(3)), frozenset(needs))
    (call,) = model.calls
    assert call["output_hidden_states"] == hidden
    assert call["use_cache"] is False
    assert (features.log_ppl is not None) == (features.has_ppl is not None) == (Need.LOG_PPL in needs)
    assert (features.last_hidden is not None) == (Need.LAST_HIDDEN in needs)
    assert (features.hidden is not None) == (features.hidden_mask is not None) == (Need.HIDDEN in needs)


@pytest.mark.parametrize("couple", [True, False])
def test_features_carry_gradient_only_when_coupled(couple: bool) -> None:
    batch = PairBatch.from_dict(tiny.batch(3))
    logps, features = separate_forward(tiny.qwen2(), batch, frozenset(Need), couple=couple)
    assert logps.chosen.requires_grad and logps.rejected.requires_grad
    for value in (features.log_ppl, features.last_hidden, features.hidden):
        assert value is not None
        assert value.requires_grad == couple


def test_scores_without_gradient_have_none() -> None:
    logps, features = scores_without_gradient(tiny.qwen2(), PairBatch.from_dict(tiny.batch(2)), frozenset(Need))
    assert not logps.chosen.requires_grad
    assert features.log_ppl is not None
    assert not features.log_ppl.requires_grad


def test_a_bf16_model_gives_float32_log_probabilities_and_features() -> None:
    model = tiny.qwen2().to(torch.bfloat16)
    logps, features = separate_forward(model, PairBatch.from_dict(tiny.batch(3)), frozenset(Need))
    for value in (logps.chosen, logps.rejected, features.log_ppl, features.last_hidden, features.hidden):
        assert value is not None
        assert value.dtype == torch.float32


def test_the_last_hidden_state_is_that_of_the_last_prompt_token() -> None:
    batch = PairBatch.from_dict(tiny.batch(4))
    _, features = separate_forward(tiny.llama(), batch, frozenset(Need))
    assert features.hidden is not None and features.hidden_mask is not None and features.last_hidden is not None
    for i in range(4):
        assert torch.equal(features.last_hidden[i], features.hidden[i][features.hidden_mask[i]][-1])


def test_nothing_selected_is_zero_everywhere() -> None:
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    found = selected_logps(torch.randn(2, 4, 5), torch.zeros(2, 4, dtype=torch.long), nothing)
    assert torch.equal(found, torch.zeros(2, 4))


def test_answers_do_not_change_what_is_read_of_their_prompt() -> None:
    batch = tiny.batch(3)
    swapped = batch | {"input_ids": batch["input_ids"].clone()}
    answers = batch["completion_mask"].bool()
    swapped["input_ids"][answers] = (swapped["input_ids"][answers] + 5) % tiny.VOCAB
    model = tiny.qwen2()
    found = [scores_without_gradient(model, PairBatch.from_dict(b), frozenset(Need))[1] for b in (batch, swapped)]
    for name in ("log_ppl", "last_hidden", "hidden"):
        first, second = (getattr(features, name) for features in found)
        mask = found[0].hidden_mask if name == "hidden" else slice(None)
        torch.testing.assert_close(first[mask], second[mask])


def test_hidden_states_are_cut_to_the_longest_prompt() -> None:
    batch = PairBatch.from_dict(tiny.batch(3))
    _, features = separate_forward(tiny.qwen2(), batch, frozenset({Need.HIDDEN}))
    assert features.hidden is not None and features.hidden_mask is not None
    assert features.hidden.shape == (3, int(batch.prompt_mask.sum(-1).max()), tiny.HIDDEN)
    assert torch.equal(features.hidden_mask, batch.prompt_mask[:, : features.hidden.shape[1]])
