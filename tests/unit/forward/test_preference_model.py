import re

import pytest
import tiny
import torch

from betahead.beta.fixed import FixedBeta
from betahead.beta.rule import Need
from betahead.errors import ConfigError
from betahead.forward.model import PreferenceModel
from betahead.losses.objective import objective_of
from betahead.types import PairBatch


def test_the_outputs_are_one_number_per_pair_and_only_the_losses_carry_gradient() -> None:
    policy = tiny.qwen2()
    outputs = PreferenceModel(policy, tiny.built(scatter=0.3))(**tiny.scored_batch(3, tiny.qwen2(1)))
    assert set(outputs) == {
        "losses",
        "margin",
        "beta",
        "penalty",
        "chosen_logps",
        "rejected_logps",
        "chosen_rewards",
        "rejected_rewards",
        "log_ppl",
        "has_ppl",
    }
    for name, value in outputs.items():
        assert value.shape == (3,)
        assert value.dtype == torch.float32
        assert value.requires_grad == (name == "losses")


def test_rewards_are_beta_times_the_log_ratios_and_differ_by_beta_times_the_margin() -> None:
    batch = tiny.scored_batch(4, tiny.qwen2(1))
    out = PreferenceModel(tiny.qwen2(), tiny.built(scatter=0.3))(**batch)
    torch.testing.assert_close(out["chosen_rewards"], out["beta"] * (out["chosen_logps"] - batch["ref_chosen_logps"]))
    torch.testing.assert_close(
        out["rejected_rewards"], out["beta"] * (out["rejected_logps"] - batch["ref_rejected_logps"])
    )
    torch.testing.assert_close(out["chosen_rewards"] - out["rejected_rewards"], out["beta"] * out["margin"])


def test_a_rule_that_reads_nothing_shows_no_perplexity() -> None:
    out = PreferenceModel(tiny.qwen2(), FixedBeta(0.1))(**tiny.scored_batch(2, tiny.qwen2(1)))
    assert "log_ppl" not in out


def test_the_references_perplexity_is_read_when_the_rule_says_so() -> None:
    batch = tiny.scored_batch(4, tiny.qwen2(1))
    policy = tiny.qwen2()
    theirs = PreferenceModel(policy, tiny.built(ppl_from="reference"))(**batch)["log_ppl"]
    own = PreferenceModel(policy, tiny.built(ppl_from="policy"))(**batch)["log_ppl"]
    assert torch.equal(theirs, batch["ref_log_ppl"])
    assert not torch.allclose(own, theirs)


def test_further_features_are_computed_on_request() -> None:
    model = PreferenceModel(tiny.qwen2(), FixedBeta(0.1))
    pairs = PairBatch.from_dict(tiny.scored_batch(2, tiny.qwen2(1)))
    _, features = model.scored(pairs, frozenset({Need.LOG_PPL, Need.LAST_HIDDEN}))
    assert features.log_ppl is not None and features.last_hidden is not None
    assert features.hidden is None


def test_a_batch_without_the_references_columns_is_a_bug_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="the reference's columns must be in the batch"):
        PreferenceModel(tiny.qwen2(), FixedBeta(0.1))(**tiny.batch(2))


def test_policy_and_rule_are_parameters_of_one_module() -> None:
    model = PreferenceModel(tiny.qwen2(), tiny.built())
    own = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert own == {"policy", "rule"}
    assert model.config is model.policy.config
    assert model.is_activation_checkpointing is False


def test_a_perspective_rule_is_refused_with_a_loss_it_was_not_derived_for() -> None:
    wanted = (
        "`loss.kind` must be sigmoid with this beta rule, but is hinge instead; its mathematics is made for no "
        "other loss."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        PreferenceModel(tiny.qwen2(), tiny.built(learning="perspective"), objective=objective_of("hinge"))
