import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from betahead.beta.files import load_rule
from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError, DataError
from betahead.train.parts import tokenized
from betahead.train.trainer import DPOTrainer

TRL_NAMES = {
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
}
OUR_NAMES = {f"beta/{name}" for name in ("mean", "min", "max", "std", "level", "at_bound")} | {
    "margins/nats",
    "penalty/mean",
}


def trainer_for(folder: Path, beta: Any = None, **changes: Any) -> DPOTrainer:
    parts: dict[str, Any] = {
        "model": tiny.qwen2(),
        "ref_model": None,
        "train_dataset": tiny.pairs(12),
        "eval_dataset": tiny.pairs(7, seed=5),
        "processing_class": tiny.tokenizer(),
        "peft_config": None,
    }
    own = {name: changes.pop(name) for name in list(changes) if name in parts}
    return DPOTrainer(args=tiny.arguments(folder, **changes), beta=beta, **(parts | own))


def lines(trainer: DPOTrainer) -> list[dict[str, float]]:
    return [line for line in trainer.state.log_history if "loss" in line]


def test_a_line_of_the_log_has_trls_names_and_ours(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, LearnedBeta(ppl_exponent="learned"))
    trainer.train()
    line = lines(trainer)[0]
    assert set(line) >= TRL_NAMES | OUR_NAMES | {"prompt/log_ppl", "beta/w", "beta/ppl_exponent", "loss", "grad_norm"}
    fixed = trainer_for(tmp_path)
    fixed.train()
    assert set(lines(fixed)[0]) >= TRL_NAMES | OUR_NAMES
    assert not {"prompt/log_ppl", "beta/w"} & set(lines(fixed)[0])


def test_held_out_metrics_have_the_same_names_behind_a_prefix(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, LearnedBeta())
    found = trainer.evaluate()
    assert set(found) >= {f"eval_{name}" for name in TRL_NAMES | OUR_NAMES | {"loss", "prompt/log_ppl"}}
    assert not [name for name in found if not name.startswith("eval_") and name != "epoch"]


def test_held_out_metrics_under_another_prefix_have_that_prefix(tmp_path: Path) -> None:
    found = trainer_for(tmp_path).evaluate(metric_key_prefix="test")
    assert set(found) >= {f"test_{name}" for name in TRL_NAMES | {"loss"}}


def test_held_out_metrics_are_those_of_a_loop_over_the_pairs(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, LearnedBeta("mlp", prior_on="each"), ref_model=tiny.qwen2(1))
    tiny.scattered(trainer.rule, 0.1)
    found = trainer.evaluate()
    trainer.model.eval()
    with torch.no_grad():
        rows = [trainer.model(**trainer.collate([row])) for row in trainer.eval_dataset]
    alone = {name: [row[name].item() for row in rows] for name in rows[0]}

    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    margins = [c - r for c, r in zip(alone["chosen_rewards"], alone["rejected_rewards"], strict=True)]
    wanted = {
        "loss": mean(alone["losses"]),
        "rewards/chosen": mean(alone["chosen_rewards"]),
        "rewards/rejected": mean(alone["rejected_rewards"]),
        "rewards/margins": mean(margins),
        "rewards/accuracies": mean([float(margin > 0) for margin in margins]),
        "logps/chosen": mean(alone["chosen_logps"]),
        "margins/nats": mean(alone["margin"]),
        "prompt/log_ppl": mean(alone["log_ppl"]),
        "beta/mean": mean(alone["beta"]),
        "beta/min": min(alone["beta"]),
        "beta/max": max(alone["beta"]),
        "beta/level": math.exp(mean([math.log(beta) for beta in alone["beta"]])),
        "penalty/mean": mean(alone["penalty"]),
    }
    for name, value in wanted.items():
        assert found[f"eval_{name}"] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 64])
def test_the_held_out_loss_does_not_depend_on_the_batch_size(batch_size: int, tmp_path: Path) -> None:
    settings = {"ref_model": tiny.qwen2(1)}
    one = trainer_for(tmp_path, 0.3, per_device_eval_batch_size=1, **settings).evaluate()
    cut = trainer_for(tmp_path, 0.3, per_device_eval_batch_size=batch_size, **settings).evaluate()
    for name in ("loss", "rewards/margins", "margins/nats"):
        assert cut[f"eval_{name}"] == pytest.approx(one[f"eval_{name}"], rel=1e-5), name


def test_evaluating_during_training_leaves_the_trajectory_alone(tmp_path: Path) -> None:
    plain = trainer_for(tmp_path, LearnedBeta())
    plain.train()
    looked = trainer_for(tmp_path, LearnedBeta(), eval_strategy="steps", eval_steps=1)
    looked.train()
    assert [line["loss"] for line in lines(looked)] == [line["loss"] for line in lines(plain)]
    assert [line["beta/mean"] for line in lines(looked)] == [line["beta/mean"] for line in lines(plain)]
    assert len([line for line in looked.state.log_history if "eval_loss" in line]) == 5


def test_the_loss_of_a_line_is_the_mean_over_its_steps(tmp_path: Path) -> None:
    each = trainer_for(tmp_path, 0.2, max_steps=4)
    each.train()
    pooled = trainer_for(tmp_path, 0.2, max_steps=4, logging_steps=4)
    pooled.train()
    (line,) = lines(pooled)
    for name in ("loss", "rewards/margins", "logps/chosen"):
        assert line[name] == pytest.approx(sum(step[name] for step in lines(each)) / 4, rel=1e-5, abs=1e-6)


def test_new_data_can_be_evaluated_before_training(tmp_path: Path) -> None:
    found = trainer_for(tmp_path, eval_dataset=None).evaluate(tiny.pairs(4, seed=8))
    assert found["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_new_data_after_training_is_refused_when_its_reference_is_gone(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    trainer.train()
    wanted = (
        "`eval_dataset` must be given to DPOTrainer before training, because the reference that it is to be scored "
        "with has been trained since; or set precompute_ref_log_probs to False."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        trainer.evaluate(tiny.pairs(4, seed=8))
    assert math.isfinite(trainer.evaluate()["eval_loss"])


@tiny.OLD_NAMES
@pytest.mark.parametrize("road", ["lora", "second model", "live"])
def test_new_data_after_training_is_scored_by_a_reference_that_is_still_there(road: str, tmp_path: Path) -> None:
    trainer = trainer_for(
        tmp_path,
        peft_config=LoraConfig(r=2, target_modules=["q_proj"]) if road == "lora" else None,
        ref_model=tiny.qwen2() if road == "second model" else None,
        precompute_ref_log_probs=road != "live",
    )
    trainer.train()
    new = tiny.pairs(5, seed=8)
    untouched = trainer_for(tmp_path, train_dataset=new, eval_dataset=None).train_dataset
    trainer.evaluate(new)
    scored = trainer._with_reference(tokenized(new, tiny.tokenizer(), trainer.settings, trainer.rule))
    if road != "live":
        assert scored["ref_chosen_logps"][:] == pytest.approx(untouched["ref_chosen_logps"][:], rel=1e-5)


def test_a_saved_folder_opens_everywhere_and_its_rule_gives_the_same_beta(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path / "run", LearnedBeta("mlp", form="direct", learning_rate=0.05))
    trainer.train()
    trainer.save_model(str(tmp_path / "policy"))
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path / "policy", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for name, parameter in trainer.model.policy.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter)
    features = tiny.features(4)
    rule = load_rule(tmp_path / "policy")
    assert torch.equal(rule(features, torch.zeros(4)).beta, trainer.rule(features, torch.zeros(4)).beta)
    assert rule(features, torch.zeros(4)).beta.std() > 0


@tiny.OLD_NAMES
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_resumed_run_takes_up_weights_head_and_scale(lora: bool, tmp_path: Path) -> None:
    peft = {"peft_config": LoraConfig(r=2, target_modules=["q_proj"]) if lora else None}
    settings = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}

    def rule() -> LearnedBeta:
        return LearnedBeta("mlp", learning_rate=0.05)

    torch.manual_seed(0)
    whole = trainer_for(tmp_path / "run", rule(), **settings, **peft)
    whole.train()
    checkpoint = tmp_path / "run" / "checkpoint-3"
    # Trained on other prompts, so that its own g would be another.
    resumed = trainer_for(tmp_path / "again", rule(), **settings, **peft, model=tiny.qwen2())
    resumed.rule.calibrate(torch.tensor([0.5]))
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert [line["step"] for line in lines(resumed)] == [1, 2, 3, 4, 5, 6]
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert resumed.rule.head.log_ppl_scale.item() == whole.rule.head.log_ppl_scale.item()


def test_the_best_checkpoint_brings_its_head_with_it(tmp_path: Path) -> None:
    trainer = trainer_for(
        tmp_path,
        LearnedBeta("mlp", learning_rate=0.1),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        max_steps=4,
        learning_rate=0.05,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
    )
    trainer.train()
    held_out = {line["step"]: line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line}
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(held_out.values()), rel=1e-6)
    best = Path(trainer.state.best_model_checkpoint or "")
    features = tiny.features(4)
    margin = torch.zeros(4)
    assert torch.equal(load_rule(best)(features, margin).beta, trainer.rule(features, margin).beta)


def test_columns_of_the_reference_that_come_with_the_data_are_used_as_they_are(tmp_path: Path) -> None:
    rows = [row | {"ref_chosen_logps": -3.0, "ref_rejected_logps": -4.0} for row in tiny.records(6)]
    trainer = trainer_for(tmp_path, train_dataset=Dataset.from_list(rows), eval_dataset=None)
    assert set(trainer.train_dataset["ref_chosen_logps"]) == {-3.0}
    trainer.train()
    line = lines(trainer)[0]
    assert line["margins/nats"] == pytest.approx(line["logps/chosen"] + 3 - line["logps/rejected"] - 4, rel=1e-5)


def test_columns_that_lack_the_perplexity_a_rule_reads_are_completed_or_refused(tmp_path: Path) -> None:
    rows = [row | {"ref_chosen_logps": -3.0, "ref_rejected_logps": -4.0} for row in tiny.records(6)]
    rule = LearnedBeta(ppl_from="reference")
    trainer: DPOTrainer | None = None
    with suppress(DataError, ConfigError):
        trainer = trainer_for(tmp_path, rule, train_dataset=Dataset.from_list(rows), eval_dataset=None)
    if trainer is not None:
        trainer.train()
        assert "prompt/log_ppl" in lines(trainer)[0]


def test_a_rule_that_was_built_by_another_trainer_is_refused_in_one_sentence(tmp_path: Path) -> None:
    rule = LearnedBeta()
    trainer_for(tmp_path, rule)
    with pytest.raises(ConfigError):
        trainer_for(tmp_path, rule)


def test_a_trainer_without_training_data_evaluates(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, train_dataset=None)
    assert trainer.calibration is None
    assert trainer.evaluate()["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_calibration_is_reported_and_reads_the_model_that_the_rule_reads(tmp_path: Path) -> None:
    own = trainer_for(tmp_path, LearnedBeta(), ref_model=tiny.qwen2(1))
    theirs = trainer_for(tmp_path, LearnedBeta(ppl_from="reference"), ref_model=tiny.qwen2(1))
    assert own.calibration is not None and theirs.calibration is not None
    assert own.calibration.prompts == theirs.calibration.prompts == 12
    assert own.calibration.scale != pytest.approx(theirs.calibration.scale, rel=1e-3)
    assert trainer_for(tmp_path, 0.1).calibration is None


def test_a_model_given_by_its_folder_is_loaded_with_its_tokenizer(tmp_path: Path) -> None:
    tiny.llama().save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    trainer = trainer_for(tmp_path, model=str(tmp_path / "model"), processing_class=None)
    assert trainer.processing_class.get_vocab() == tiny.tokenizer().get_vocab()
    trainer.train()
    assert len(lines(trainer)) == 5


def given_optimizer(folder: Path, rule: Any, schedule: Any = None) -> tuple[DPOTrainer, torch.optim.Optimizer]:
    model = tiny.qwen2()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    made = None if schedule is None else schedule(optimizer)
    parts: dict[str, Any] = {"train_dataset": tiny.pairs(8), "processing_class": tiny.tokenizer()}
    trainer = DPOTrainer(model, args=tiny.arguments(folder), optimizers=(optimizer, made), beta=rule, **parts)
    return trainer, optimizer


def test_an_optimizer_that_is_given_gets_the_rule_as_a_group_of_its_own(tmp_path: Path) -> None:
    rule = LearnedBeta(learning_rate=0.05)
    trainer, optimizer = given_optimizer(tmp_path, rule)
    start = [p.detach().clone() for p in rule.parameters()]
    trainer.train()
    trainer.train()
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.01, 0), (0.05, 0.0)]
    assert all(not torch.equal(p, s) for p, s in zip(rule.parameters(), start, strict=True))


def test_an_optimizer_that_is_given_is_left_alone_where_no_rule_learns(tmp_path: Path) -> None:
    for rule in (0.1, LearnedBeta(learning="none")):
        trainer, optimizer = given_optimizer(tmp_path, rule, lambda o: torch.optim.lr_scheduler.StepLR(o, 2))
        trainer.train()
        assert len(optimizer.param_groups) == 1


def test_a_schedule_that_does_not_know_the_rule_is_refused(tmp_path: Path) -> None:
    wanted = r"^`optimizers` must be \(optimizer, None\) with a beta rule that learns, .+ a StepLR instead; say"
    with pytest.raises(ConfigError, match=wanted):
        given_optimizer(tmp_path, LearnedBeta(), lambda o: torch.optim.lr_scheduler.StepLR(o, 2))


def test_the_head_is_clipped_also_when_the_policy_is_not(tmp_path: Path) -> None:
    rule = LearnedBeta(learning_rate=1.0)
    trainer = trainer_for(
        tmp_path, rule, ref_model=tiny.qwen2(1), optim="sgd", max_steps=1, max_grad_norm=0.0, head_max_grad_norm=0.25
    )
    start = [p.detach().clone() for p in rule.parameters()]
    for parameter in rule.parameters():
        parameter.register_hook(lambda gradient: gradient * 1e6)
    trainer.train()
    moved = torch.cat([(p - s).flatten() for p, s in zip(rule.parameters(), start, strict=True)])
    assert moved.norm().item() == pytest.approx(0.25, rel=1e-4)


def test_two_runs_with_one_seed_are_one_run(tmp_path: Path) -> None:
    found: list[list[float]] = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        trainer = trainer_for(tmp_path, LearnedBeta("transformer"))
        trainer.train()
        found.append([line["loss"] for line in lines(trainer)])
    assert found[0] == found[1]


@tiny.OLD_NAMES
def test_two_runs_of_a_new_adapter_with_one_seed_are_one_run(tmp_path: Path) -> None:
    found: list[list[float]] = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        trainer = trainer_for(tmp_path, 0.1, peft_config=LoraConfig(r=2, target_modules=["q_proj"]))
        trainer.train()
        found.append([line["loss"] for line in lines(trainer)])
    assert found[0] == found[1]


def test_a_fixed_beta_is_the_default(tmp_path: Path) -> None:
    rule = trainer_for(tmp_path).rule
    assert isinstance(rule, FixedBeta)
    assert rule.beta == 0.1


def test_several_held_out_sets_are_evaluated_under_their_names(tmp_path: Path) -> None:
    sets = {"near": tiny.pairs(4, 1), "far": tiny.pairs(6, 2)}
    trainer = trainer_for(tmp_path, 0.1, eval_dataset=sets)
    found = trainer.evaluate()
    assert {"eval_near_loss", "eval_near_margins/nats", "eval_far_loss", "eval_far_margins/nats"} <= found.keys()
    again = trainer.evaluate({"far": tiny.pairs(6, 2)})
    assert again["eval_far_loss"] == pytest.approx(found["eval_far_loss"])


@pytest.mark.parametrize("layout", ["explicit", "hh"])
def test_the_held_out_set_of_a_trainer_can_be_given_back_to_it_whatever_the_layout(layout: str, tmp_path: Path) -> None:
    rows = tiny.pairs(6)
    if layout == "hh":
        rows = [
            {name: f"\n\nHuman: {row['prompt']}\n\nAssistant:{row[name]}" for name in ("chosen", "rejected")}
            for row in rows
        ]
    trainer = trainer_for(tmp_path, 0.1, train_dataset=rows, eval_dataset=rows, layout=layout)
    trainer.train()
    assert trainer.evaluate(trainer.eval_dataset)["eval_loss"] == pytest.approx(trainer.evaluate()["eval_loss"])


@pytest.mark.parametrize("beta", ["0.1", "learned", [0.1], LearnedBeta, True, float("nan")])
def test_a_beta_that_is_neither_number_nor_rule_is_a_sentence(beta: object, tmp_path: Path, unchecked: None) -> None:
    with pytest.raises(ConfigError, match=r"^`beta\.beta` must be a positive number, but is"):
        trainer_for(tmp_path, beta)


@pytest.mark.parametrize("model", [None, 5, torch.nn.Linear(2, 2)])
def test_a_model_that_is_none_is_a_sentence(model: object, tmp_path: Path, unchecked: None) -> None:
    with pytest.raises(ConfigError, match=r"^`model` must be a causal language model, or the folder or Hub name"):
        DPOTrainer(model, args=tiny.arguments(tmp_path), processing_class=tiny.tokenizer())


def test_training_without_pairs_is_a_sentence(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, 0.1, train_dataset=None)
    with pytest.raises(ConfigError, match=r"^`train_dataset` must be given to train, but is None"):
        trainer.train()


def test_predicting_is_refused_with_what_to_call_instead(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^`predict` has nothing to return .+ use `evaluate\(pairs\)` instead"):
        trainer_for(tmp_path, 0.1).predict(tiny.pairs(3))
