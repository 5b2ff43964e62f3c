"""`betahead train` as a person types it: a good run leaves a complete folder, a bad input one sentence and nothing."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from betahead.beta.files import load_rule
from betahead.runs.opened import open_run


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_leaves_everything_that_its_folder_promises(world, betahead):
    code, out, err = betahead("train", "one.yaml")
    assert code == 0, err
    run = world / "runs" / "one"
    promised = ["config.yaml", "run.json", "metrics.jsonl", "prompts.parquet", "samples.jsonl", "checkpoints"]
    promised += [
        "training_prompts.json",
        "policy",
        "failures",
        "beta_head.safetensors",
        "beta_head.json",
        "summary.json",
        "DONE",
    ]
    assert sorted(path.name for path in run.iterdir()) == sorted(promised)

    steps = [row for row in rows(run / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    assert abs(steps[0]["loss"] - 0.6931) < 0.01
    names = {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen"}
    names |= {"logps/rejected", "beta/mean", "beta/min", "beta/max", "beta/std", "beta/level", "beta/at_bound"}
    assert names | {"prompt/log_ppl"} <= steps[0].keys()

    snapshots = pq.read_table(run / "prompts.parquet")
    assert sorted(set(snapshots["progress"].to_pylist())) == [0, 0.25, 0.5, 0.75, 1]
    assert snapshots.num_rows == 5 * 6
    assert snapshots["beta"].null_count == snapshots["f"].null_count == snapshots["pc2"].null_count == 0

    samples = rows(run / "samples.jsonl")
    assert len(samples) == 2
    assert samples[0].keys() == {"prompt_id", "prompt", "reference", "policy"}

    summary = json.loads((run / "summary.json").read_text())
    assert summary["pairs"] == {"train": 48, "held_out": 16}
    assert 0 <= summary["held_out"]["rewards/accuracies"] <= 1
    record = json.loads((run / "run.json").read_text())
    assert record["command"] == "betahead train one.yaml"
    assert "held-out pairs" in out
    assert "step    4" in out


def test_the_policy_is_an_ordinary_folder_and_the_head_lies_beside_it(world, betahead):
    assert betahead("train", "one.yaml")[0] == 0
    folder = world / "runs" / "one" / "policy"
    _, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert AutoTokenizer.from_pretrained(folder).chat_template
    beside, above = load_rule(folder), load_rule(folder.parent)
    assert all(a.equal(b) for a, b in zip(beside.state_dict().values(), above.state_dict().values(), strict=True))


def test_the_config_of_a_run_repeats_it_to_the_last_bit(world, betahead):
    assert betahead("train", "one.yaml")[0] == 0
    code, _, err = betahead("train", "runs/one/config.yaml", "output=runs/two")
    assert code == 0, err
    first, second = (rows(world / "runs" / name / "metrics.jsonl") for name in ("one", "two"))
    measured = ("loss", "grad_norm", "beta/mean", "margins/nats")
    assert [[row.get(name) for name in measured] for row in first] == [
        [row.get(name) for name in measured] for row in second
    ]


def test_lora_trains_an_adapter_and_saves_it_alone(world, betahead):
    code, _, err = betahead("train", "one.yaml", "model.adapter={kind: lora, rank: 2}")
    assert code == 0, err
    policy = world / "runs" / "one" / "policy"
    assert (policy / "adapter_model.safetensors").is_file()
    assert not (policy / "model.safetensors").exists()
    assert AutoModelForCausalLM.from_pretrained(policy) is not None


def test_a_fixed_beta_runs_too_and_its_snapshots_have_no_correction(world, betahead):
    code, _, err = betahead("train", "one.yaml", "beta.kind=fixed", "beta.beta=0.2", "reference.cache=live")
    assert code == 0, err
    snapshots = pq.read_table(world / "runs" / "one" / "prompts.parquet")
    assert snapshots["f"].null_count == snapshots.num_rows
    assert snapshots["log_ppl"].null_count == 0
    assert snapshots["beta"].to_pylist() == pytest.approx([0.2] * snapshots.num_rows)


def test_a_budget_of_tokens_and_its_companions_are_settings_of_the_file(world, betahead):
    words = ("max_batch_tokens=8", "train_sampling_strategy=group_by_length", "head_max_grad_norm=0.5")
    words += ("calibration_prompts=4", "disable_dropout=false")
    code, out, err = betahead("train", "one.yaml", *(f"train.{word}" for word in words))
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("passes")]
    assert "pairs with more tokens than `max_batch_tokens` (8): " in line
    assert "over 4 prompts" in out
    code, _, err = betahead("train", "one.yaml", "output=runs/two", "train.max_batch_tokens=0")
    assert code == 2
    assert "`train.max_batch_tokens` must be at least 1, but is 0 instead." in err


def test_held_out_learning_says_what_it_costs_and_trains_on_the_prompts_that_are_left(world, betahead):
    words = ["beta.learning={kind: heldout, held_out_share: 0.2, held_out_pairs: 4, held_out_every: 2}"]
    code, out, err = betahead("train", "one.yaml", *words)
    assert code == 0, err
    to_come, spent = (line for line in out.splitlines() if line.startswith("heldout"))
    pairs, prompts = map(int, re.search(r"β follows (\d+) pairs of (\d+) training prompts", to_come).groups())
    assert "every 2 steps a forward and backward pass over 4 of them" in to_come
    assert re.search(r"estimates took \d+\.\d s of \d+\.\d s: training was \d+\.\d times as slow as without", spent)
    summary = json.loads((world / "runs" / "one" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["heldout"]["pairs"], summary["heldout"]["prompts"]) == (pairs, prompts)
    assert summary["heldout"]["estimates"] > 0
    planned = int(re.search(r"pairs +(\d+) to train on", out).group(1))
    assert summary["pairs"]["train"] == planned - pairs
    assert any("heldout/loss" in row for row in rows(world / "runs" / "one" / "metrics.jsonl"))
    assert load_rule(world / "runs" / "one").settings["learning"] == {
        "kind": "heldout",
        "held_out_share": 0.2,
        "held_out_pairs": 4,
        "held_out_every": 2,
    }
    code, out, err = betahead("train", "one.yaml", "--dry-run", "output=runs/two", *words)
    assert code == 0, err
    assert "1 pair in" in out


def test_a_budget_says_what_measuring_it_cost_and_keeps_its_level_with_the_head(world, betahead):
    words = ["beta.learning={kind: budget, target_kl: 2.0, kl_every: 2, kl_prompts: 4, kl_tokens: 3}"]
    code, out, err = betahead("train", "one.yaml", *words)
    assert code == 0, err
    assert re.search(r"^budget +2 KL estimates of 4 answers took \d+\.\d s \(\d+\.\d\d s each\)", out, re.MULTILINE)
    shown = [row for row in rows(world / "runs" / "one" / "metrics.jsonl") if "kl/estimate" in row]
    assert shown[-1]["kl/estimate"] != 0.0
    rule = load_rule(world / "runs" / "one")
    assert rule.settings["learning"] == {
        "kind": "budget",
        "target_kl": 2.0,
        "allocation": "perspective",
        "level_rate": 0.15,
        "kl_from": "samples",
        "kl_every": 2,
        "kl_prompts": 4,
        "kl_tokens": 3,
    }
    assert float(rule.log_metrics()["kl/estimate"]) != 0.0
    code, out, err = betahead("train", "one.yaml", "--dry-run", "output=runs/two", *words)
    assert code == 0, err
    assert "learned (budget)" in out


def test_a_small_reference_is_fitted_on_the_paragraphs_of_any_text_file(world, betahead):
    (world / "book.txt").write_text("\n\n".join(f"Paragraph {n} says that rain is wet." for n in range(40)))
    fit = "{kind: small, corpus: book.txt, vocab_size: 300, hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, "
    fit += "intermediate_size: 16, tokens: 2000, row_tokens: 64}"
    text = (world / "one.yaml").read_text()
    (world / "fit.yaml").write_text(re.sub(r"model: .*", f"model: {{fit: {fit}}}", text))
    code, out, err = betahead("train", "fit.yaml")
    assert code == 0, err
    assert "fitted on 40 documents" in out


def test_a_small_reference_is_fitted_without_the_held_out_prompts_and_kept(world, betahead):
    fit = "{kind: small, corpus: train, vocab_size: 300, hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, "
    fit += "intermediate_size: 16, tokens: 2000, row_tokens: 64}"
    text = (world / "one.yaml").read_text()
    (world / "fit.yaml").write_text(re.sub(r"model: .*", f"model: {{fit: {fit}}}", text))
    code, out, err = betahead("train", "fit.yaml")
    assert code == 0, err
    assert (world / "runs" / "one" / "reference" / "model.safetensors").is_file()
    assert "fitted on 96 documents" in out, "48 training pairs have 96 answers; the held-out ones are left out"
    assert sorted(path.name for path in world.iterdir()) == [
        "fit.yaml",
        "one.yaml",
        "pairs.jsonl",
        "pairs.jsonl.refcache",
        "runs",
    ]
    code, _, err = betahead("train", "fit.yaml", "output=runs/adapted", "model.adapter={kind: lora, rank: 2}")
    assert code == 0, err
    policy = world / "runs" / "adapted" / "policy"
    settings = json.loads((policy / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(world / "runs" / "adapted" / "reference")
    assert AutoModelForCausalLM.from_pretrained(policy).num_parameters() > 0
    assert not [path for path in policy.iterdir() if b".betahead-fit" in path.read_bytes()]
    # Other tools would have to be told where a run went; betahead knows.
    (world / "runs" / "adapted").rename(world / "runs" / "moved")
    assert open_run(world / "runs" / "moved", device="cpu").reference.adapters_off


def test_a_dry_run_prints_the_plan_and_leaves_nothing(world, betahead):
    code, out, err = betahead("train", "one.yaml", "--dry-run")
    assert code == 0, err
    assert "plan of runs/one" in out
    assert "2 pairs in" in out
    assert "loss 0.69" in out
    assert not (world / "runs").exists()


GPU_PRESETS = ["dpo", "learned_beta", "learned_beta_perspective", "r1_distill_qwen_1.5b", "r1_distill_qwen_1.5b_lora"]


@pytest.mark.parametrize("preset", GPU_PRESETS)
def test_a_preset_for_a_gpu_can_be_tried_dry_on_a_cpu(preset, world, model, betahead):
    words = [
        f"model.name={model}",
        "data.train=pairs.jsonl",
        "data.max_length=96",
        "data.holdout=0.25",
        "output=runs/x",
    ]
    code, out, err = betahead("train", preset, "--dry-run", *words)
    assert code == 0, err
    assert "mixed precision: bf16" in out
    assert re.search(r"2 pairs in \d+\.\d+ s on the CPU, loss", " ".join(out.replace("│", "").split()))
    assert not (world / "runs").exists()


@pytest.mark.parametrize("change", ["train.learning_rate=1e30", "train.optim=sgd train.learning_rate=1e38"])
def test_a_run_whose_loss_is_no_number_stops_with_a_sentence_and_what_was_seen(change, world, betahead):
    words = [*change.split(), "train.max_grad_norm=0", "train.warmup_steps=0"]
    code, out, err = betahead("train", "one.yaml", *words)
    assert code == 2
    assert err.startswith("error: training must stay finite, but `")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    run = world / "runs" / "one"
    found = json.loads((run / "failures" / "not_finite.json").read_text())
    assert found["step"] == 2, "the first step was too long, and the second was not taken"
    assert len(found["pairs"]) == 4
    assert {"row", "prompt_id", "beta", "margin", "prompt", "chosen", "rejected"} <= found["pairs"][0].keys()
    assert not (run / "DONE").exists()


@pytest.mark.parametrize("silence", ["train.logging_steps=100", "train.logging_strategy=no"])
def test_a_policy_that_is_no_number_is_not_saved_where_the_log_never_looked(silence, world, betahead):
    # The only step is the last one: no other comes that would be looked at before it is taken.
    words = ["beta={kind: fixed, beta: 1000.0}", "train.optim=sgd", "train.learning_rate=3.0e+38"]
    words += ["train.warmup_steps=0", "train.max_grad_norm=0", "train.max_steps=1", "train.save_strategy=no", silence]
    code, out, err = betahead("train", "one.yaml", *words)
    assert code == 2
    assert err.startswith("error: training must stay finite, but `")
    assert "Traceback" not in out + err
    run = world / "runs" / "one"
    assert json.loads((run / "failures" / "not_finite.json").read_text())["step"] == 1
    assert not (run / "DONE").exists()
    assert not (run / "policy").exists()


def test_a_run_that_cannot_begin_takes_no_other_run_with_it(world, betahead, monkeypatch):
    def interrupted(*arguments, **keywords):
        (world / "runs" / "other").mkdir()
        (world / "runs" / "other" / "summary.json").write_text("hours of work")
        raise KeyboardInterrupt

    monkeypatch.setattr("betahead.runs.training.answers_of", interrupted)
    assert betahead("train", "one.yaml")[0] == 130
    assert [path.name for path in (world / "runs").iterdir()] == ["other"]
    assert (world / "runs" / "other" / "summary.json").read_text() == "hours of work"


# What a bad input gets -------------------------------------------------------------------------------------------


def lines_of(path, *changed):
    path.write_text("\n".join(changed) + "\n", encoding="utf-8")
    return str(path)


GOOD = json.dumps({"prompt": "What is rain?", "chosen": "Water.", "rejected": "A stone."})


def row(**changes):
    return json.dumps(json.loads(GOOD) | changes)


BAD_DATA = {
    "malformed JSON at line n": ([GOOD, '{"prompt": '], r"bad\.jsonl:2"),
    "a missing column": (['{"prompt": "a", "chosen": "b"}'] * 3, r"rejected"),
    "an empty prompt": ([row(prompt="")], r"bad\.jsonl:1: `prompt` must have words, but is empty"),
    "an empty answer": ([row(chosen="")], r"bad\.jsonl:1: `chosen` must have words, but is empty"),
    "identical answers": (
        [row(chosen="Same.", rejected="Same.")],
        r"bad\.jsonl:1: `chosen` and `rejected` must differ",
    ),
    "a prompt longer than max_length": ([row(prompt="rain " * 200)], r"max_length"),
    "fields that are no text": ([row(chosen=7)], r"chosen"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_rows_get_one_sentence_and_leave_nothing(case, world, betahead):
    lines, pattern = BAD_DATA[case]
    code, out, err = betahead("train", "one.yaml", f"data.train={lines_of(world / 'bad.jsonl', *lines)}")
    refused(code, out, err, pattern, world)


def refused(code, out, err, pattern, world):
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1, "one sentence, one line"
    assert "Traceback" not in out + err
    assert re.search(pattern, err), err
    assert not (world / "runs").exists(), "nothing half written"


BAD_SETTINGS = {
    "a setting of the trainer that nothing would read": (
        ["train.resume_from_checkpoint=somewhere"],
        r"`train\.resume_from_checkpoint` must not be set.*resumes",
    ),
    "accumulation over no batch": (
        ["train.gradient_accumulation_steps=0"],
        r"`train\.gradient_accumulation_steps` must be at least 1",
    ),
    "a logger that does not exist": (
        ["train.report_to=wandbb", "model.name=./no-model"],
        r"`train\.report_to` must be none, all or of .*wandb.*, but is 'wandbb' instead",
    ),
    "a logger whose package is missing": (
        ["train.report_to=comet_ml", "model.name=./no-model"],
        r"`train\.report_to` must name loggers that are installed, but comet_ml is not",
    ),
    "two precisions at once": (
        ["train.bf16=true", "train.fp16=true", "model.name=./no-model"],
        r"`train\.fp16` must be left out with `bf16`, but both are true",
    ),
    "no epoch": (["train.max_steps=-1", "train.num_train_epochs=0"], r"`train\.num_train_epochs` must be above 0"),
    "an optimizer whose package is missing": (
        ["train.optim=adamw_8bit", "model.name=./no-model"],
        r"`train\.optim` must be an optimizer whose package is installed, but is adamw_8bit instead",
    ),
    "a schedule without its keywords": (
        ["train.lr_scheduler_type=cosine_with_min_lr"],
        r"`train\.lr_scheduler_kwargs` must fit the schedule cosine_with_min_lr, but are None instead \(",
    ),
    "a schedule without its lengths": (
        ["train.lr_scheduler_type=warmup_stable_decay"],
        r"`train\.lr_scheduler_kwargs` must fit the schedule warmup_stable_decay, but are None instead \(",
    ),
    "a keyword that the schedule does not have": (
        ["train.lr_scheduler_kwargs={foo: 1}"],
        r"`train\.lr_scheduler_kwargs` must fit the schedule linear, but are \{'foo': 1\} instead \(",
    ),
    "a keyword that divides by nothing": (
        ["train.lr_scheduler_type=inverse_sqrt", "train.lr_scheduler_kwargs={timescale: 0}"],
        r"`train\.lr_scheduler_kwargs` must fit the schedule inverse_sqrt, but are \{'timescale': 0\} instead",
    ),
    "a level of the log that does not exist": (["train.log_level=nope"], r"`train\.log_level` must be one of detail,"),
    "a keyword that checkpointing does not have": (
        ["train.gradient_checkpointing=true", "train.gradient_checkpointing_kwargs={x: 1}"],
        r"`train\.gradient_checkpointing_kwargs` must hold keywords of torch\.utils\.checkpoint \(.+, but has 'x' inst",
    ),
    "a way to start processes that does not exist": (
        ["train.dataloader_num_workers=1", "train.dataloader_multiprocessing_context=nope"],
        r"`train\.dataloader_multiprocessing_context` must be one of fork, .+, but is 'nope' instead",
    ),
    "a metric that is not measured": (
        [
            "train.load_best_model_at_end=true",
            "train.eval_strategy=steps",
            "train.eval_steps=2",
            "train.save_steps=2",
            "train.metric_for_best_model=los",
        ],
        r"`train\.metric_for_best_model` must be a metric of the held-out pairs, but is 'los' instead; did you mean",
    ),
    "no step": (
        ["train.max_steps=-1", "train.dataloader_drop_last=true", "train.per_device_train_batch_size=49"],
        r"`train\.per_device_train_batch_size` must be at most .+ but 48 pairs fill no batch of 49",
    ),
    "a number of steps that is none": (["train.max_steps=0"], r"`train\.max_steps` must be at least 1, or -1 for all"),
    "an option of an optimizer without a value": (
        ["train.optim_args=foo"],
        r"`train\.optim_args` must be name=value, more of them after commas, but is 'foo' instead",
    ),
    "a folder of the Hub without an upload": (
        ["train.hub_model_id=me/mine"],
        r"`train\.hub_model_id` must not be set.+betahead push RUN --to NAME",
    ),
    "an exponent that is no number": (["beta.ppl_exponent=.nan"], r"`beta\.ppl_exponent` must be a finite number"),
    "answers longer than the context": (
        ["model.name=gpt2", "evaluate.max_new_tokens=60"],
        r"`evaluate\.max_new_tokens` must leave prompt and answer within the 64 positions",
    ),
    "pairs longer than the context": (
        ["model.name=gpt2-short"],
        r"`data\.max_length` must be at most 16, the positions that the model has, but the longest pair has \d+ tokens",
    ),
    "a tokenizer larger than the embedding": (
        ["model.name=gpt2-few"],
        r"`processing_class` must have at most the 50 tokens that the model has embeddings for, but has \d+ instead",
    ),
    "a model whose weights are broken": (
        ["model.name=torn"],
        r"torn cannot be loaded \(.+\); correct the name, or download or save it again",
    ),
    "an unknown key": (["beta.nett=mlp"], r"`beta.nett` is not a key.*did you mean `net`"),
    "a wrong type": (["data.max_length=long"], r"max_length"),
    "a missing file": (["data.train=nowhere.jsonl"], r"nowhere\.jsonl"),
    "a folder where a file should be": (["data.train=folder"], r"folder"),
    "an unreadable archive": (["data.train=broken.jsonl.gz"], r"broken\.jsonl\.gz"),
    "a broken Parquet file": (["data.train=broken.parquet"], r"broken\.parquet"),
    "a model that is nowhere": (["model.name=./no-model"], r"`model` must be"),
    "an encoder": (["model.name=encoder"], r"`model` must be a causal language model"),
    "an encoder-decoder": (["model.name=seq2seq"], r"`model` must be a causal language model"),
    "a loss that perspective is not made for": (
        ["beta.learning={kind: perspective}", "loss.kind=hinge", "model.name=./no-model"],
        r"`loss.kind` must be sigmoid",
    ),
    "layers that the model does not have": (
        ["model.adapter={kind: lora, target_modules: [nowhere]}"],
        r"target_modules",
    ),
    "a schedule that does not exist": (["train.lr_scheduler_type=cosines"], r"did you mean `cosine`"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_get_one_sentence_and_leave_nothing(case, world, model, betahead):
    (world / "folder").mkdir()
    (world / "broken.jsonl.gz").write_bytes(gzip.compress(GOOD.encode() * 50)[:40])
    (world / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=64, **shape)).save_pretrained(world / "encoder")
    T5ForConditionalGeneration(
        T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    ).save_pretrained(world / "seq2seq")
    for name, positions, vocabulary in (("gpt2", 64, 400), ("gpt2-short", 16, 400), ("gpt2-few", 64, 50)):
        config = GPT2Config(vocab_size=vocabulary, n_positions=positions, n_embd=16, n_layer=1, n_head=2)
        GPT2LMHeadModel(config).save_pretrained(world / name)
        AutoTokenizer.from_pretrained(model).save_pretrained(world / name)
    (world / "torn").mkdir()
    (world / "torn" / "config.json").write_text((model / "config.json").read_text())
    (world / "torn" / "model.safetensors").write_bytes(b"{}")
    words, pattern = BAD_SETTINGS[case]
    refused(*betahead("train", "one.yaml", *words), pattern, world)
    refused(*betahead("train", "one.yaml", "--dry-run", *words), pattern, world)


@pytest.mark.parametrize("token", ["pad_token", "eos_token"])
def test_a_tokenizer_without_pad_or_eos_is_refused_with_the_remedy(token, world, model, betahead):
    tokenizer = AutoTokenizer.from_pretrained(model)
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(world / "bare")
    setattr(tokenizer, token, None)
    tokenizer.save_pretrained(world / "bare")
    word = {"pad_token": "padding token", "eos_token": "end-of-sequence token"}[token]
    refused(*betahead("train", "one.yaml", "model.name=bare"), word, world)


def test_an_output_that_holds_another_run_is_refused_and_left_alone(world, betahead):
    assert betahead("train", "one.yaml")[0] == 0
    before = sorted(path.stat().st_mtime_ns for path in (world / "runs" / "one").rglob("*"))
    code, _, err = betahead("train", "one.yaml")
    assert code == 2
    assert "holds another run already" in err
    assert before == sorted(path.stat().st_mtime_ns for path in (world / "runs" / "one").rglob("*"))


def test_rows_that_can_be_skipped_are_counted_in_one_line(world, betahead):
    good = tiny_run.pair_rows()
    bad = [good[0] | {"chosen": ""}, good[1] | {"rejected": good[1]["chosen"]}]
    tiny_run.write_rows(world / "pairs.jsonl", [*good, *bad])
    code, out, err = betahead("train", "one.yaml")
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("train ")]
    assert "64 of 66 rows kept" in line
    assert "empty answer" in line
    assert "identical answers" in line


def test_parquet_and_zipped_rows_are_read_like_plain_ones(world, betahead):
    pairs = tiny_run.pair_rows()
    pq.write_table(pa.Table.from_pylist(pairs), world / "pairs.parquet")
    (world / "pairs.jsonl.gz").write_bytes(gzip.compress((world / "pairs.jsonl").read_bytes()))
    losses = []
    for number, name in enumerate(("pairs.jsonl", "pairs.parquet", "pairs.jsonl.gz")):
        code, _, err = betahead("train", "one.yaml", f"data.train={name}", f"output=runs/{number}")
        assert code == 0, err
        losses.append([r.get("loss") for r in rows(world / "runs" / str(number) / "metrics.jsonl")])
    assert losses[0] == losses[1] == losses[2]
