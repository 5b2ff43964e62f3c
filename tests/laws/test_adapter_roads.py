"""Every kind of adapter: one set of weights, a reference that stays, and the same numbers saved, loaded and merged."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from betahead.beta.learned import LearnedBeta
from betahead.runs.adapters import untie_head
from betahead.train.trainer import DPOTrainer
from betahead.types import bundled

pytestmark = [
    tiny.OLD_NAMES,
    # What PEFT warns of is untied before it is merged, and saved as it is told.
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning"),
]

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": "all-linear"},
    "dora": {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
    "on the LM head": {"target_modules": ["q_proj", "lm_head"]},
    "dora on the LM head": {"target_modules": ["lm_head"], "use_dora": True},
    "an LM head trained whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
}
ROADS = {"before": {"precompute_ref_log_probs": True}, "live": {"precompute_ref_log_probs": False}}
IDS = torch.tensor([[5, 9, 17, 30, 8, 41]])


def adapter(kind: str, **settings: Any) -> LoraConfig:
    return LoraConfig(r=2, lora_alpha=8, task_type="CAUSAL_LM", **KINDS[kind], **settings)


def trainer(folder: Path, model: Any, **settings: Any) -> DPOTrainer:
    parts = {name: settings.pop(name) for name in ("peft_config",) if name in settings}
    return DPOTrainer(
        model,
        # Adam would make steps of the noise in gradients that are next to nothing.
        args=tiny.arguments(folder, max_steps=4, optim="sgd", learning_rate=0.5, **settings),
        train_dataset=tiny.pairs(14),
        eval_dataset=tiny.pairs(5, seed=9),
        processing_class=tiny.tokenizer(),
        beta=LearnedBeta("mlp", ppl_from="reference"),
        **parts,
    )


def measured(made: DPOTrainer) -> list[list[float]]:
    names = ("loss", "grad_norm", "margins/nats", "beta/mean")
    return [[line[name] for name in names] for line in made.state.log_history if "loss" in line]


def elements(*models: torch.nn.Module) -> int:
    """Numbers that the models hold together, each place in memory once."""
    places = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in models for p in m.parameters()}
    return sum(places.values()) // 4


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS).logits


# A tied head is another matter only where the adapter is on it; DoRA is refused there, for the padding token's row.
CASES = [*(("llama", kind) for kind in KINDS), ("qwen2", "on the LM head"), ("qwen2", "an LM head trained whole")]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_the_reference_is_the_model_without_and_there_are_no_second_weights(
    family: str, kind: str, tmp_path: Path
) -> None:
    base = elements(tiny.POLICIES[family]())
    seen: list[list[list[float]]] = []
    for road, settings in ROADS.items():
        made = trainer(tmp_path / road, tiny.POLICIES[family](), peft_config=adapter(kind), **settings)
        policy = made.model.policy
        own = sum(p.numel() for p in policy.parameters() if p.requires_grad)
        assert elements(policy, made.reference.model) == base + own
        made.train()
        assert elements(policy, made.reference.model) == base + own
        seen.append(measured(made))
        plain = tiny.POLICIES[family]()
        with policy.disable_adapter():
            torch.testing.assert_close(logits(policy), logits(plain), rtol=0, atol=0)
        assert (logits(policy) - logits(plain)).abs().max() > 1e-3
    before, live = torch.tensor(seen[0]), torch.tensor(seen[1])
    assert before[0, 0] == pytest.approx(math.log(2), abs=1e-5)
    torch.testing.assert_close(before, live, rtol=1e-4, atol=1e-5)
    assert before[-1, 2] != 0.0


def scattered(family: str, kind: str) -> PeftModel:
    """A model with an adapter that training has moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = get_peft_model(tiny.POLICIES[family](), adapter(kind))
    with torch.no_grad():
        for number, p in enumerate(p for p in model.parameters() if p.requires_grad):
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(number)))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_that_is_trained_further_is_held_to_its_own_copy(kind: str, tmp_path: Path) -> None:
    base, seen = elements(tiny.llama()), []
    for road, settings in ROADS.items():
        start = scattered("llama", kind)
        untouched = copy.deepcopy(start)
        own = sum(p.numel() for p in start.parameters() if p.requires_grad)
        made = trainer(tmp_path / road, start, **settings)
        assert elements(made.model.policy, made.reference.model) == base + 2 * own
        made.train()
        seen.append(measured(made))
        # After training the reference still is the adapter as it came, also for pairs that nobody had scored.
        torch.testing.assert_close(logits(made.reference.model), logits(untouched), rtol=0, atol=0)
        assert (logits(made.model.policy) - logits(untouched)).abs().max() > 1e-3
        assert math.isfinite(made.evaluate(tiny.pairs(3, seed=30))["eval_loss"])
        batch = bundled(tiny.batch(3))
        torch.testing.assert_close(
            made.reference.scores(batch).chosen_logps,
            type(made.reference)(untouched).scores(batch).chosen_logps,
            rtol=0,
            atol=0,
        )
    before, live = torch.tensor(seen[0]), torch.tensor(seen[1])
    assert before[0, 0] == pytest.approx(math.log(2), abs=1e-5)
    torch.testing.assert_close(before, live, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_peft_loads_what_was_saved_and_merging_keeps_the_numbers(family: str, kind: str, tmp_path: Path) -> None:
    base: PreTrainedModel = tiny.POLICIES[family]()
    base.save_pretrained(tmp_path / "base")
    made = trainer(tmp_path / "out", tiny.POLICIES[family](), peft_config=adapter(kind))
    made.train()
    made.save_model(str(tmp_path / "policy"))
    assert not (tmp_path / "policy" / "model.safetensors").exists()
    wanted = logits(made.model.policy)
    # The library warns of a tied head, which is untied here before it is merged.
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "policy")
    torch.testing.assert_close(logits(loaded), wanted, rtol=0, atol=0)
    untie_head(loaded)
    loaded.merge_and_unload().save_pretrained(tmp_path / "whole")
    whole, info = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(logits(whole), wanted, rtol=1e-4, atol=1e-4)
    assert whole.config.tie_word_embeddings == (family == "qwen2" and "head" not in kind.lower())


def test_checkpointing_of_activations_changes_nothing_about_an_adapter(tmp_path: Path) -> None:
    seen = []
    for on in (False, True):
        made = trainer(tmp_path / str(on), tiny.llama(), peft_config=adapter("dora"), gradient_checkpointing=on)
        made.train()
        seen.append(torch.tensor(measured(made)))
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-5, atol=1e-6)
