import re
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    Qwen2Model,
    T5Config,
    T5ForConditionalGeneration,
)

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.wpo import OnPolicyWeight
from betahead.errors import ConfigError, DataError
from betahead.forward.model import PreferenceModel
from betahead.train.parts import (
    causal_model,
    drops_out,
    reference_for,
    rule_from,
    tokenizer_for,
    without_dropout,
)
from betahead.train.trainer import DPOTrainer
from betahead.types import on_device

T5 = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
BERT = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)


def sentence(text: str) -> str:
    return f"^{re.escape(text)}$"


def test_beta_comes_from_the_trainer_or_the_config_or_is_a_tenth(tmp_path: Path) -> None:
    plain, with_beta = tiny.arguments(tmp_path), tiny.arguments(tmp_path, beta=0.4)
    assert rule_from(None, plain).settings == {"beta": 0.1}
    assert rule_from(None, with_beta).settings == {"beta": 0.4}
    assert rule_from(0.7, plain).settings == {"beta": 0.7}
    rule = LearnedBeta()
    assert rule_from(rule, plain) is rule


def test_a_beta_given_twice_is_refused(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path, beta=0.4)
    wanted = "`beta` must be given once, but DPOConfig says 0.4 and DPOTrainer says 0.7; remove one."
    with pytest.raises(ConfigError, match=sentence(wanted)):
        DPOTrainer(tiny.qwen2(), args=args, processing_class=tiny.tokenizer(), beta=0.7)
    with pytest.raises(ConfigError, match=r"^`beta` must be given once, but DPOConfig says 0\.4 .*; remove one\.$"):
        DPOTrainer(tiny.qwen2(), args=args, processing_class=tiny.tokenizer(), beta=LearnedBeta())


def test_a_loaded_model_that_is_not_causal_is_refused_by_its_class() -> None:
    models = (T5ForConditionalGeneration(T5), BertForMaskedLM(BERT), Qwen2Model(tiny.qwen2().config))
    for model in models:
        wanted = f"`model` must be a causal language model, but is {type(model).__name__} instead."
        with pytest.raises(ConfigError, match=sentence(wanted)):
            causal_model(model)


def test_a_named_model_that_is_not_causal_is_refused_by_its_kind(tmp_path: Path) -> None:
    T5ForConditionalGeneration(T5).save_pretrained(tmp_path)
    wanted = f"`model` must be a causal language model, but {tmp_path} is t5."
    with pytest.raises(ConfigError, match=sentence(wanted)):
        causal_model(str(tmp_path))


def test_a_folder_without_a_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"^`model` must be a folder or Hub name of a causal language model, but .+ cannot be loaded \(",
    ) as error:
        causal_model(str(tmp_path))
    assert "\n" not in str(error.value)


def test_keywords_for_loading_are_used_for_a_name_and_refused_for_a_model(tmp_path: Path) -> None:
    tiny.qwen2().save_pretrained(tmp_path)
    assert causal_model(str(tmp_path), {"dtype": "bfloat16"}).dtype == torch.bfloat16
    wanted = "`model_init_kwargs` applies only to a model given by name, but a loaded model was given."
    with pytest.raises(ConfigError, match=sentence(wanted)):
        causal_model(tiny.qwen2(), {"dtype": "bfloat16"})


def test_the_tokenizer_is_the_one_given_or_the_one_beside_the_model(tmp_path: Path) -> None:
    model = tiny.qwen2()
    assert tokenizer_for(model, tiny.tokenizer()) is tiny.tokenizer()
    wanted = "`processing_class` must be given for a model that was not loaded from a folder or the Hub."
    with pytest.raises(ConfigError, match=sentence(wanted)):
        tokenizer_for(model, None)
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    assert tokenizer_for(causal_model(str(tmp_path)), None).get_vocab() == tiny.tokenizer().get_vocab()


# Without any tokenizer file, transformers 5 makes a Qwen2 tokenizer of one token, which turns every text into nothing.
@pytest.mark.parametrize("family", tiny.POLICIES)
def test_a_model_folder_without_a_tokenizer_is_refused(family: str, tmp_path: Path) -> None:
    tiny.POLICIES[family]().save_pretrained(tmp_path)
    wanted = f"`processing_class` must be given, because {tmp_path} holds no tokenizer."
    with pytest.raises(ConfigError, match=sentence(wanted)):
        tokenizer_for(causal_model(str(tmp_path)), None)


@pytest.mark.parametrize("absent", ["pad", "eos"])
def test_a_tokenizer_without_pad_or_eos_token_is_refused(absent: str, tmp_path: Path) -> None:
    specials = {f"{name}_token": f"<{name}>" for name in ("pad", "eos") if name != absent}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer().backend_tokenizer, **specials)
    token = {"pad": "a padding token", "eos": "an end-of-sequence token"}[absent]
    with pytest.raises(DataError, match=f"^the tokenizer must have {token}, but {type(tokenizer).__name__} has none; "):
        DPOTrainer(tiny.qwen2(), args=tiny.arguments(tmp_path), processing_class=tokenizer)


def test_dropout_is_turned_off_wherever_a_model_keeps_it() -> None:
    model = tiny.llama(attention_dropout=0.4)
    nested = nn.ModuleDict({"model": model, "after": nn.Dropout(0.5)})
    without_dropout(nested)
    assert {m.p for m in nested.modules() if isinstance(m, nn.Dropout)} == {0.0}
    assert {m.attention_dropout for m in model.modules() if hasattr(m, "attention_dropout")} == {0.0}


def test_dropout_is_noticed_wherever_a_model_keeps_it() -> None:
    assert drops_out(tiny.llama(attention_dropout=0.4))
    assert drops_out(nn.Sequential(tiny.llama(), nn.Dropout(0.1)))
    assert not drops_out(nn.Sequential(tiny.llama(), nn.Dropout(0.0)))


def test_the_reference_is_the_policy_itself_a_copy_or_the_model_given(tmp_path: Path) -> None:
    policy, other = tiny.qwen2(), tiny.qwen2(1)
    before, live = tiny.arguments(tmp_path), tiny.arguments(tmp_path, precompute_ref_log_probs=False)
    preference = PreferenceModel(policy, FixedBeta(0.1))
    assert reference_for(preference, None, before, new_adapter=False).model is policy
    copy = reference_for(preference, None, live, new_adapter=False).model
    assert copy is not policy
    assert not any(p.requires_grad for p in copy.parameters())
    assert all(p.requires_grad for p in policy.parameters())
    assert reference_for(preference, None, live, new_adapter=True).adapters_off
    assert reference_for(preference, other, live, new_adapter=False).model is other
    assert not any(p.requires_grad for p in other.parameters())


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"ppl_from": "reference"}, True),
        ({"ppl_from": "policy"}, False),
        ({"ppl_from": "reference", "form": "direct"}, True),
    ],
    ids=str,
)
def test_the_reference_scores_prompts_only_for_a_rule_that_reads_it(
    rule: dict[str, str], wanted: bool, tmp_path: Path
) -> None:
    preference = PreferenceModel(tiny.qwen2(), tiny.built(**rule))
    reference = reference_for(preference, None, tiny.arguments(tmp_path), new_adapter=False)
    assert bool(reference.needs) == wanted


def test_what_is_not_a_tensor_stays_on_its_way_to_the_device() -> None:
    moved = on_device({"a": torch.zeros(1), "b": "text"}, torch.device("meta"))
    assert moved["a"].device.type == "meta"
    assert moved["b"] == "text"


def test_weighting_by_its_name_in_trl_is_a_rule_and_is_refused_beside_one(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path, use_weighting=True)
    for beta, wanted in ((None, 0.1), (0.3, 0.3)):
        rule = rule_from(beta, args)
        assert isinstance(rule, OnPolicyWeight)
        assert rule.settings == {"beta": wanted, "cap": None}
    sentence = (
        "`use_weighting` must be False with a rule as `beta`, but is True beside FixedBeta; of the rules, "
        "OnPolicyWeight is the one that weighs so."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        rule_from(FixedBeta(0.1), args)
