"""Policy and reference on the same answers, token by token."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from betahead.evaluate.both_models import as_reference, token_logps_of_both
from betahead.evaluate.kl import scored_answers

ROWS = [([5, 6, 7], [8, 9, 2]), ([5], [4, 2, 11, 12, 2])]


def model(seed):
    config = Qwen2Config(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(config).eval()


def plain(network, prompt, answer):
    """Each token's log-probability from a pass of its own, without padding."""
    logits = network(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    return [logits[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer)]


def test_every_token_has_the_log_probability_of_a_plain_pass_under_either_model():
    policy, reference = model(0), model(1)
    with torch.no_grad():
        for found, (prompt, answer) in zip(token_logps_of_both(policy, reference, ROWS), ROWS, strict=True):
            assert found.policy.tolist() == pytest.approx(plain(policy, prompt, answer), abs=1e-5)
            assert found.reference.tolist() == pytest.approx(plain(reference, prompt, answer), abs=1e-5)


def test_the_tokens_sum_to_the_answers_that_the_kl_is_measured_on():
    policy, reference = model(0), model(1)
    found = token_logps_of_both(policy, reference, ROWS)
    summed = scored_answers(
        policy, reference, [prompt for prompt, _ in ROWS], [[answer] for _, answer in ROWS], eos_token_ids=[2]
    )
    assert np.allclose([one.policy.sum() for one in found], summed.policy_logps[:, 0], atol=1e-5)
    assert np.allclose([one.reference.sum() for one in found], summed.reference_logps[:, 0], atol=1e-5)


def test_without_a_reference_of_its_own_the_adapters_are_off_for_it_and_on_again_afterwards():
    policy = get_peft_model(model(0), LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj", "v_proj"]))
    policy.eval()
    with torch.no_grad():
        found = token_logps_of_both(policy, None, ROWS)[0]
        assert found.policy.tolist() == pytest.approx(plain(policy, *ROWS[0]), abs=1e-5)
        with policy.disable_adapter():
            assert found.reference.tolist() == pytest.approx(plain(policy, *ROWS[0]), abs=1e-5)
    assert np.abs(found.policy - found.reference).max() > 1e-3
    with as_reference(policy, None) as same:
        assert same is policy
    with as_reference(policy, other := model(1)) as named:
        assert named is other
