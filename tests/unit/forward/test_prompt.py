import pytest
import torch

from betahead.beta.rule import Need
from betahead.forward.prompt import LOG_PPL_FLOOR, log_ppl_of, prompt_features


def test_a_memorised_prompt_is_held_at_the_floor() -> None:
    found, known = log_ppl_of(torch.tensor([-3e-6]), torch.tensor([3]))
    assert found.tolist() == pytest.approx([LOG_PPL_FLOOR])
    assert known.tolist() == [True]


def test_a_prompt_without_a_counted_token_is_not_known() -> None:
    found, known = log_ppl_of(torch.tensor([0.0, -3.0]), torch.tensor([0, 2]))
    assert known.tolist() == [False, True]
    assert found.tolist() == pytest.approx([LOG_PPL_FLOOR, 1.5])


def test_features_are_computed_only_on_demand_and_without_gradient_unless_coupled() -> None:
    asked: list[tuple[str, bool]] = []

    def given(name: str, *values: torch.Tensor) -> object:
        def compute() -> object:
            asked.append((name, torch.is_grad_enabled()))
            return values if len(values) > 1 else values[0]

        return compute

    parts = {
        "log_ppl": given("log_ppl", torch.tensor([-1.0, -2.0]), torch.tensor([1, 1])),
        "last_hidden": given("last_hidden", torch.zeros(2, 4)),
        "hidden": given("hidden", torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)),
    }
    for needs, couple in ((set(), True), ({Need.LOG_PPL}, True), (set(Need), False)):
        prompt_features(frozenset(needs), pairs=2, couple=couple, **parts)
    assert asked == [("log_ppl", True), ("log_ppl", False), ("last_hidden", False), ("hidden", False)]
