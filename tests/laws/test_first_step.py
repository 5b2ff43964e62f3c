"""At the first step the policy is its reference: the margin is 0 and the loss log 2, by every road."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.forward.model import PreferenceModel
from betahead.losses.objective import objective_of
from betahead.losses.table import LOSSES
from betahead.train.trainer import DPOTrainer

RULES = [{"net": net, **form, **learning} for net in tiny.NETS for form in tiny.FORMS for learning in tiny.LEARNING]


def name_of(rule: dict[str, Any]) -> str:
    return "-".join(str(value) for value in rule.values())


@pytest.mark.parametrize("ppl_from", ["policy", "reference"])
@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_the_margin_is_zero_for_every_learned_rule(rule: dict[str, Any], ppl_from: str) -> None:
    policy = tiny.qwen2().train()
    model = PreferenceModel(policy, tiny.built(**rule, ppl_from=ppl_from, scatter=0.3))
    outputs = model(**tiny.scored_batch(5, policy))
    assert outputs["margin"].abs().max() <= 1e-5
    assert (outputs["beta"] > 0).all()


LOG_2 = math.log(2)
AT_ZERO = {
    "apo_down": 1.0,
    "apo_zero": 1.0,
    "bco": 2 * LOG_2,
    "bco_pair": 2 * LOG_2,
    "cal_dpo": LOG_2 + 1.0,
    "discopop": (LOG_2 + 1) / 2,
    "exo_pair": -LOG_2 - math.log(0.1 * 0.9) / 2,
    "hinge": 1.0,
    "ipo": 1.0,
    "nca_pair": 2 * LOG_2,
    "sppo_hard": 2.0,
}


@pytest.mark.parametrize("kind", sorted(kind for kind, row in LOSSES.items() if row.needs_reference))
@pytest.mark.parametrize("family", tiny.POLICIES)
def test_the_margin_is_zero_for_every_loss_with_a_reference(family: str, kind: str) -> None:
    policy = tiny.POLICIES[family]()
    objective = objective_of(kind, label_smoothing=0.1 if LOSSES[kind].smooths == "must" else 0.0)
    outputs = PreferenceModel(policy, FixedBeta(0.5), objective=objective)(**tiny.scored_batch(5, policy))
    assert outputs["margin"].abs().max() <= 1e-5
    assert outputs["losses"].tolist() == pytest.approx([AT_ZERO.get(kind, LOG_2)] * 5, abs=1e-5)


def rules_for_the_roads() -> dict[str, BetaRule]:
    return {
        "fixed": FixedBeta(0.3),
        "joint": LearnedBeta(prior_weight=0.0),
        "joint, reading the reference": LearnedBeta("mlp", ppl_from="reference", prior_weight=0.0),
        "coupled": LearnedBeta("transformer", form="direct", couple=True, prior_weight=0.0),
        "perspective": LearnedBeta(learning="perspective", ppl_exponent="learned"),
        "frozen": LearnedBeta(learning="none", ppl_exponent=-1),
    }


@tiny.OLD_NAMES
@pytest.mark.parametrize("precomputed", [True, False], ids=["precomputed", "live"])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize(
    ("rule", "forward"),
    [*((rule, "shared") for rule in rules_for_the_roads()), ("fixed", "separate"), ("coupled", "separate")],
)
def test_every_road_to_the_reference_starts_at_margin_zero(
    rule: str, forward: str, lora: bool, precomputed: bool, tmp_path: Path
) -> None:
    trainer = DPOTrainer(
        tiny.llama(attention_dropout=0.3),
        args=tiny.arguments(tmp_path, precompute_ref_log_probs=precomputed, forward=forward),
        train_dataset=tiny.pairs(8),
        processing_class=tiny.tokenizer(),
        peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"]) if lora else None,
        beta=rules_for_the_roads()[rule],
    )
    trainer.model.train()
    for start in (0, 4):
        batch = dict(trainer.collate([trainer.train_dataset[i] for i in range(start, start + 4)]))
        assert ("ref_chosen_logps" in batch) == precomputed
        loss, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
        assert outputs["margin"].abs().max() <= 1e-5
        if rule != "perspective":
            assert loss.item() == pytest.approx(math.log(2), abs=1e-5)


def test_the_joint_loss_of_a_scattered_head_is_log_two_without_its_prior() -> None:
    policy = tiny.qwen2()
    batch = tiny.scored_batch(6, policy)
    for net in tiny.NETS:
        model = PreferenceModel(policy, tiny.built(net=net, prior_weight=0.0, scatter=0.5))
        outputs = model(**batch)
        assert outputs["beta"].std() > 0
        assert outputs["losses"].tolist() == pytest.approx([math.log(2)] * 6, abs=1e-5)
    with_prior = PreferenceModel(policy, tiny.built(prior_weight=1.0, scatter=0.5))(**batch)
    torch.testing.assert_close(with_prior["losses"], math.log(2) + with_prior["penalty"])
