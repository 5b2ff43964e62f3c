"""What rules read of the whole vocabulary is the same on both roads, live or cached, and costs no further pass."""

from collections import Counter
from pathlib import Path
from typing import Any

import families
import pytest
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import nn
from waits import Waits

from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.beta.mallows import DispersionBeta
from betahead.beta.rule import BetaRule, Need
from betahead.beta.wpo import OnPolicyWeight
from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.forward.model import PreferenceModel
from betahead.forward.roads import pair_forward
from betahead.forward.vocabulary import Perturbation
from betahead.reference.frozen import FrozenReference, wants_of
from betahead.train.trainer import DPOTrainer
from betahead.types import AnswerSums, bundled

RECORDS = tiny.records(5)
PLAIN, PACKED = PairCollator(pad_token_id=0), PackedCollator()
ALL = frozenset({Need.COLLISION, Need.ENTROPY})


def sums_of(model: nn.Module, reference: FrozenReference, collate: Any) -> AnswerSums:
    batch = bundled(collate(RECORDS))
    states = reference.scores(batch).states
    assert states is not None
    beside = Perturbation(size=0.05, states=states, head=reference.head)
    return pair_forward(model, batch, ALL, beside=beside)[0].sums


def assert_same(found: AnswerSums, wanted: AnswerSums) -> None:
    for name in ("collision", "entropy", "looser", "tighter"):
        one, other = getattr(found, name), getattr(wanted, name)
        assert one is not None and other.abs().max() > 1e-4, name
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize("name", ["qwen2", "llama", "gemma2, softcaps and alternating windows"])
def test_both_roads_read_the_same_with_a_second_model_as_the_reference(name: str) -> None:
    model = families.family(name).eval()
    other = families.family(name).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    reference = FrozenReference(other, wants_states=True)
    assert_same(sums_of(model, reference, PACKED), sums_of(model, reference, PLAIN))


@tiny.OLD_NAMES
@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["q_proj", "lm_head"]], ids="+".join)
def test_with_adapters_off_the_reference_is_the_model_under_them(modules: list[str]) -> None:
    adapter = LoraConfig(r=2, target_modules=modules, task_type="CAUSAL_LM", init_lora_weights=False)
    model = get_peft_model(tiny.llama(), adapter).eval()
    off = FrozenReference(model, adapters_off=True, wants_states=True)
    second = FrozenReference(tiny.llama(), wants_states=True)
    wanted = sums_of(model, second, PLAIN)
    for collate in (PLAIN, PACKED):
        assert_same(sums_of(model, off, collate), wanted)


@tiny.OLD_NAMES
def test_a_trained_copy_of_the_lm_head_is_not_that_of_the_reference() -> None:
    adapter = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    model = get_peft_model(tiny.llama(), adapter).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.mul_(1.3)
    off = FrozenReference(model, adapters_off=True, wants_states=True)
    wanted = sums_of(model, FrozenReference(tiny.llama(), wants_states=True), PLAIN)
    for collate in (PLAIN, PACKED):
        assert_same(sums_of(model, off, collate), wanted)


def test_padding_and_the_other_pairs_of_a_batch_change_nothing() -> None:
    model, reference = tiny.qwen2().eval(), FrozenReference(tiny.qwen2(1), wants_states=True, wants_entropy=True)
    rule = PerturbedBeta(0.1, 0.05)
    for collate in (PLAIN, PACKED):
        together = shaped(model, rule, reference, collate(RECORDS))
        for number, record in enumerate(RECORDS):
            alone = shaped(model, rule, reference, collate([record]))
            for name, value in alone.items():
                torch.testing.assert_close(together[name][number : number + 1], value, rtol=1e-4, atol=1e-6, msg=name)


def shaped(policy: Any, rule: BetaRule, reference: FrozenReference, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What a rule makes of a batch, with the reference beside it."""
    model = PreferenceModel(policy, rule)
    model.reference_head = reference.head
    scores = reference.scores(bundled(batch))
    logps, features = model.scored(bundled(batch | scores.columns()))
    margin, shaping = model.shaped(logps, features, scores)
    entropy = {} if scores.entropy is None else {"entropy": scores.entropy}
    return {"margin": margin.detach(), "beta": shaping.beta, "weight": shaping.weight, **entropy}


RULES: dict[str, Any] = {
    "wpo": lambda: OnPolicyWeight(0.1, cap=None),
    "mallows": lambda: DispersionBeta(0.1, scale=0.4),
    "epsilon_dpo": lambda: PerturbedBeta(0.1, 0.05),
}


@pytest.mark.parametrize("kind", RULES)
def test_both_roads_shape_every_pair_alike_and_not_all_pairs_alike(kind: str) -> None:
    rule = RULES[kind]()
    reference = FrozenReference(tiny.qwen2(1), **wants_of(rule))
    found, wanted = (shaped(tiny.qwen2(), rule, reference, collate(RECORDS)) for collate in (PACKED, PLAIN))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert len(set((wanted["beta"] * wanted["weight"]).tolist())) > 1


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.usefixtures("unchecked")
def test_no_rule_reads_the_device_or_passes_the_body_twice(kind: str) -> None:
    policy, rule = tiny.qwen2().train(), RULES[kind]()
    reference = FrozenReference(tiny.qwen2(1), **wants_of(rule))
    batch = PACKED(RECORDS)
    passes: Counter[str] = Counter()
    policy.model.register_forward_pre_hook(lambda *_: passes.update(["body"]))
    model = PreferenceModel(policy, rule)
    model.reference_head = reference.head
    with Waits() as seen:
        scores = reference.scores(bundled(batch))
        model(**batch | scores.columns())["losses"].sum().backward()
        rule.step_taken(lambda t: t)
    assert seen == []
    assert passes == {"body": 1}


def test_a_policy_that_is_its_reference_is_neither_loosened_nor_tightened() -> None:
    policy, rule = tiny.qwen2(), PerturbedBeta(0.1, 0.05)
    reference = FrozenReference(tiny.qwen2(), **wants_of(rule))
    for collate in (PLAIN, PACKED):
        assert shaped(policy, rule, reference, collate(RECORDS))["beta"].tolist() == pytest.approx([0.1] * 5, rel=1e-7)


# The reference's entropy, live and cached


def trained(folder: Path, **settings: Any) -> DPOTrainer:
    rows = settings.pop("rows", None)
    trainer = DPOTrainer(
        tiny.qwen2(),
        tiny.qwen2(1),
        tiny.arguments(folder, max_steps=4, **settings),
        train_dataset=tiny.pairs(12) if rows is None else rows,
        processing_class=tiny.tokenizer(),
        beta=DispersionBeta(0.3),
    )
    trainer.train()
    return trainer


def lines(trainer: DPOTrainer) -> list[list[float]]:
    names = ("loss", "beta/mean", "beta/min", "beta/max", "beta/scale")
    return [[line[name] for name in names] for line in trainer.state.log_history if "loss" in line]


def test_cached_columns_and_a_live_reference_give_the_same_entropy(tmp_path: Path) -> None:
    cache = {"reference_cache": str(tmp_path / "cache")}
    memory = trained(tmp_path)
    new, old = trained(tmp_path, **cache), trained(tmp_path, **cache)
    assert old.scoring.cached is not None and len(old.scoring.cached.cache) > 0
    assert list(new.train_dataset["ref_entropy"]) == list(memory.train_dataset["ref_entropy"])
    assert lines(new) == lines(old) == lines(memory)
    live = trained(tmp_path, precompute_ref_log_probs=False)
    for found, wanted in zip(lines(live), lines(memory), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    # The mean over the training pairs is β.
    betas = DispersionBeta(0.3)
    entropy = torch.tensor(list(memory.train_dataset["ref_entropy"]), dtype=torch.float64)
    betas.calibrate_entropy(entropy)
    assert float((0.3 * -entropy.log() / betas.mean.double()).mean()) == pytest.approx(0.3, rel=1e-6)


def test_entropy_that_came_with_tokenized_data_is_read(tmp_path: Path) -> None:
    scores = {"ref_chosen_logps": -9.0, "ref_rejected_logps": -8.0}
    rows = [row | scores | {"ref_entropy": 0.2 + 0.1 * number} for number, row in enumerate(tiny.records(4))]
    trainer = trained(tmp_path, rows=Dataset.from_list(rows))
    wanted = -torch.tensor([0.2, 0.3, 0.4, 0.5]).log()
    assert float(trainer.rule.mean) == pytest.approx(float(wanted.mean()), rel=1e-6)  # pyright: ignore
