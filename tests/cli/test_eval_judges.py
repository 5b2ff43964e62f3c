"""`betahead eval --judge …`: gold program, reward model, and a real endpoint on this machine, from the command line."""

import json
import os
import pty
import re
import shutil
import sqlite3
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import tiny_run
import torch
import typer
from judge_server import COUNTED, Trouble, completion, judge_server, prefers, refusal
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from betahead.cli.eval import _approve, evaluate_run
from betahead.errors import ConfigError, DataError
from betahead.evaluate.judge_canary import NULL_ANSWERS
from betahead.evaluate.judge_cost import Outlay, Spent
from betahead.report.numbers import interval
from betahead.report.written import write_report
from betahead.worlds.grammar import GrammarWorld

SHORT = ("--kl-prompts", "0", "--max-new-tokens", "6", "--judge-prompts", "8")
KEY = "sk-" + "k" * 30


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = [pair.row for pair in GrammarWorld().pairs(40, 0, "train")]
    return tiny_run.finished_run(tmp_path_factory.mktemp("judged"), "data.max_length=128", rows=rows).path


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def ran(*words):
    app = typer.Typer()
    app.command()(evaluate_run)
    return CliRunner(env={"NO_COLOR": "1"}).invoke(app, [*(str(word) for word in words), "--device", "cpu"])


def found(*words):
    result = ran(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*words):
    error = ran(*words).exception
    assert isinstance(error, ConfigError | DataError), error
    return str(error)


def serious(answer):
    """A judge that sees through null answers, and otherwise likes length."""
    return -1 if answer in NULL_ANSWERS else len(answer)


def test_the_gold_program_judges_the_worlds_prompts(run):
    result = found(run, *SHORT, "--judge", "gold")["win_rate"]
    assert (result["kind"], result["matches"], result["cost"], result["unjudged"]) == ("gold", 8, None, {})
    assert result["judge"] == "gold program of the world 'grammar'"
    assert result["canary"] == {"matches": 8, "lost": 8}
    assert result["wins"] + result["ties"] + result["losses"] == 8
    assert result["win_rate"]["estimate"] == (result["wins"] + result["ties"] / 2) / 8
    assert 0 <= result["policy_grade"]["estimate"] <= 1
    printed = ran(run, *SHORT, "--judge", "gold").stdout
    assert f"Win rate over the reference: {result['win_rate']['estimate']:.3f} [" in printed
    assert "Mean grade: policy" in printed and "null answers lost 8 of 8 matches" in printed


def test_what_was_measured_and_saved_stands_in_the_report(copy):
    saved = found(
        copy, "--judge", "gold", "--judge-prompts", "8", "--kl-prompts", "4", "--max-new-tokens", "6", "--save"
    )
    page = write_report([copy], copy / "report.html").path.read_text(encoding="utf-8")
    part = page.partition('<section id="measured">')[2].partition("</section>")[0]
    pairs = saved["pairs"]
    shown = (
        *(
            pairs[name]
            for name in ("accuracy", "longer_wins", "gain", "nll", "brier", "ece", "slope", "margin", "beta")
        ),
        *(pairs["rescaled"][name] for name in ("nll", "brier", "ece", "slope")),
        *(saved["answers"][name] for name in ("policy_tokens", "reference_tokens", "difference")),
        saved["win_rate"]["win_rate"],
        saved["win_rate"]["policy_grade"],
    )
    assert all(interval(one) in part for one in shown)
    assert all(f'<th scope="row">{name}</th>' in part for name in pairs["domains"])
    assert "gold program of the world" in part and "None" not in part


def test_the_gold_program_refuses_prompts_that_are_not_the_worlds(run, tmp_path):
    rows = [{"prompt": "Why?", "chosen": "a b c", "rejected": "d e"}]
    file = tiny_run.write_rows(tmp_path / "other.jsonl", rows)
    assert "must be one of the world 'grammar'" in refused(run, *SHORT, "--judge", "gold", "--data", file)


def test_an_endpoint_is_asked_once_and_then_read_from_the_file(copy, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with judge_server(prefers(serious)) as server:
        words = [copy, *SHORT, "--judge", f"openai:{server.url}", "--judge-model", "m", "--judge-key-env", "JUDGE_KEY"]
        result = ran(*words, "--yes", "--price-in", "2", "--price-out", "10", "--json", "--save")
        assert result.exit_code == 0, result.output
        asked = len(server.asked)
        rate = json.loads(result.stdout)["win_rate"]
        assert asked == rate["cost"]["requests"] == 16 + 2 * (8 - rate["equal_answers"])
        assert rate["cost"]["price"] == pytest.approx((asked * 100 * 2 + asked * 10 * 10) / 1e6)
        assert f"m at {server.url}: {asked} requests, about " in result.stderr
        assert "at most " in result.stderr and " at the given prices" in result.stderr
        assert all(one.headers["Authorization"] == f"Bearer {KEY}" for one in server.asked)
        again = ran(*words, "--json")  # nothing to ask, so nobody has to agree
        assert again.exit_code == 0, again.output
        assert f"all {asked} replies are kept from before" in again.stderr
        assert len(server.asked) == asked
    second = json.loads(again.stdout)["win_rate"]
    assert second["cost"] == {
        "requests": 0,
        "kept": asked,
        "counted": 0,
        "tokens_in": 0,
        "tokens_out": 0,
        "price": None,
    }
    assert {k: v for k, v in second.items() if k != "cost"} == {k: v for k, v in rate.items() if k != "cost"}
    assert not [path for path in copy.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert "win rate over the reference, judged by m at http" in (copy / "policy/README.md").read_text().replace(
        "\\", ""
    )
    assert json.loads((copy / "eval.json").read_text())["win_rate"] == rate


@pytest.mark.parametrize("counting", [0, 3])
def test_tokens_that_the_endpoint_does_not_count_are_unknown_and_not_nothing(counting, copy):
    honest = prefers(serious)

    def answer(asked):
        return Trouble(body=completion(honest(asked), usage=COUNTED if asked.number < counting else None))

    with judge_server(answer) as server:
        words = [copy, *SHORT, "--judge", f"openai:{server.url}", "--judge-model", "m", "--price-in", 2]
        result = ran(*words, "--price-out", 10, "--yes", "--json")
        cost = json.loads(result.stdout)["win_rate"]["cost"]
        asked = len(server.asked)
        (copy / "judgements.sqlite").unlink()
        server.asked.clear()
        printed = ran(*words, "--price-out", 10, "--yes").stdout
    before = f"The judge was asked {asked} times (0 replies were kept from before)"
    assert (cost["requests"], cost["counted"]) == (asked, counting)
    if counting:
        assert (cost["tokens_in"], cost["tokens_out"], cost["price"]) == (300, 30, pytest.approx(0.0009))
        assert (
            f"{before}: 300 tokens in, 30 out, at the given prices 0.0009 for the 3 whose tokens it counts; the rest "
            "is unknown" in printed
        )
    else:
        assert cost["tokens_in"] is cost["tokens_out"] is cost["price"] is None
        assert f"{before}; what that cost is unknown, for the endpoint counts no tokens" in printed


def test_a_reasoning_model_is_asked_as_it_wants_to_be(copy):
    honest = prefers(serious)

    def answer(asked):
        for name in ("max_tokens", "temperature"):
            if name in asked.body:
                return refusal(f"Unsupported parameter: '{name}' is not supported with this model.", param=name)
        return honest(asked)

    with judge_server(answer) as server:
        words = [copy, *SHORT, "--judge", f"openai:{server.url}", "--judge-model", "m", "--yes"]
        result = found(*words, "--judge-workers", 1)["win_rate"]
        assert result["cost"]["requests"] == len(server.asked) - 2
        assert result["canary"] == {"matches": 8, "lost": 8}


def test_a_model_whose_thoughts_take_all_its_tokens_is_told_so(copy):
    with judge_server(lambda _: Trouble(body=completion("", finish="length", usage=COUNTED))) as server:
        sentence = refused(copy, *SHORT, "--judge", f"openai:{server.url}", "--judge-model", "m", "--yes")
    assert sentence.startswith("`--judge-max-tokens` must leave room for a verdict after what the judge thinks, but ")


def test_where_nobody_can_be_asked_nothing_is_sent_without_yes(copy):
    with judge_server(prefers(serious)) as server:
        sentence = refused(copy, *SHORT, "--judge", f"openai:{server.url}", "--judge-model", "m")
        assert server.asked == []
    assert sentence == (
        "`--yes` must be given where nobody can be asked whether to go on, but is not; add it, or run the command in a "
        "terminal."
    )
    assert not (copy / "judgements.sqlite").exists()


@pytest.mark.parametrize(("said", "goes_on"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_a_person_decides(said, goes_on, monkeypatch, capsys):
    class Named:
        name = "m at somewhere"

    outlay = Outlay(requests=12, kept=3, tokens_in=34000, tokens_out=6144)
    master, slave = pty.openpty()
    try:
        with os.fdopen(slave, "r", closefd=False) as terminal:
            monkeypatch.setattr(sys, "stdin", terminal)
            os.write(master, said.encode())
            if goes_on:
                _approve(Named(), outlay, None, yes=False)
            else:
                with pytest.raises(typer.Abort):
                    _approve(Named(), outlay, (1.0, 2.0), yes=False)
    finally:
        os.close(master)
        os.close(slave)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert (
        "m at somewhere: 12 requests (3 more are kept from before), about 34,000 tokens in and at most 6,144 out; "
        in (printed.err)
    )
    price = "its price is unknown without --price-in and --price-out" if goes_on else "at most 0.04629 at the given"
    assert price in printed.err


def test_a_judge_that_likes_null_answers_is_refused_and_nothing_is_reported(copy):
    before = (copy / "policy/README.md").read_bytes()
    with judge_server(prefers(lambda answer: "prefer this one" in answer or len(answer) < 30)) as server:
        sentence = refused(copy, *SHORT, "--judge", f"openai:{server.url}", "--judge-model", "m", "--yes", "--save")
        assert len(server.asked) == 16
    assert "must prefer the data's answers to ones that say nothing" in sentence
    assert not (copy / "eval.json").exists() and (copy / "policy/README.md").read_bytes() == before


def test_an_endpoint_that_fails_halfway_is_gone_on_with(copy, tmp_path):
    honest = prefers(serious)
    broken = {"after": 18}

    def answer(asked):
        return Trouble(status=400, body=b"no") if asked.number >= broken["after"] else honest(asked)

    with judge_server(answer) as server:
        words = [copy, *SHORT, "--judge", f"openai:{server.url}", "--judge-model", "m", "--yes", "--judge-workers", 1]
        words += ["--judge-cache", tmp_path / "kept.sqlite"]
        assert "must take the question, but refuses it (HTTP 400: no)" in refused(*words)
        (kept,) = sqlite3.connect(tmp_path / "kept.sqlite").execute("SELECT COUNT(*) FROM replies").fetchone()
        assert kept == 18
        broken["after"] = 10**9
        cost = found(*words)["win_rate"]["cost"]
        assert cost["kept"] >= kept and cost["requests"] == len(server.asked) - kept - 1


def test_nonsense_is_counted_and_named(copy):
    honest = prefers(serious)
    confused = {"prompt": ""}

    def answer(asked):
        null = {asked.pair["answer_1"], asked.pair["answer_2"]} & set(NULL_ANSWERS)
        confused["prompt"] = confused["prompt"] or ("" if null else asked.pair["request"])
        return "Hm." if not null and asked.pair["request"] == confused["prompt"] else honest(asked)

    with judge_server(answer) as server:
        words = [copy, *SHORT, "--judge", f"openai:{server.url}", "--judge-model", "m", "--yes"]
        result = found(*words)["win_rate"]
        printed = ran(*words).stdout
    assert result["unjudged"] == {"nonsense/nonsense": 1}
    assert result["wins"] + result["ties"] + result["losses"] == 7
    assert "Left out for want of a verdict: 1 of 8 prompts (1 × nonsense/nonsense)" in printed


@torch.no_grad()
def write_reward_model(run, folder):
    """A classifier that tells the data's answers from null ones: its reward is the direction between their states."""
    tokenizer = AutoTokenizer.from_pretrained(run / "policy")
    model = AutoModelForSequenceClassification.from_pretrained(run / "policy", num_labels=1)
    model.config.max_position_embeddings = 256  # rotary positions have no end of their own
    pairs = GrammarWorld().pairs(40, 0, "train")

    def state(pair, answer):
        chat = [{"role": "user", "content": pair.prompt.text}, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        places = (ids[0] != model.config.pad_token_id).nonzero()[-1, 0]
        return model.model(ids).last_hidden_state[0, places]

    rows = [(state(pair, pair.chosen), [state(pair, null) for null in NULL_ANSWERS]) for pair in pairs]
    apart = torch.stack([good - bad for good, nulls in rows for bad in nulls])
    direction = torch.linalg.lstsq(apart, torch.ones(len(apart), 1)).solution
    model.score.weight.copy_(direction.T)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_reward_model_judges(run, tmp_path):
    name = write_reward_model(run, tmp_path / "reward")
    result = found(run, *SHORT, "--judge", f"reward:{name}")["win_rate"]
    assert (result["kind"], result["judge"]) == ("reward", f"reward model {name}")
    assert result["matches"] == 8 and result["policy_grade"]["low"] is not None
    assert result["canary"]["lost"] >= 7


def test_answers_have_their_lengths_beside_the_kl(run):
    result = found(run, "--kl-prompts", 4, "--kl-samples", 2, "--max-new-tokens", 5)
    answers = result["answers"]
    assert (answers["prompts"], answers["samples"], answers["max_new_tokens"]) == (4, 2, 5)
    assert answers["policy_tokens"]["estimate"] == pytest.approx(result["kl"]["mean_tokens"])
    assert 1 <= answers["reference_tokens"]["low"] <= answers["reference_tokens"]["high"] <= 5
    difference = answers["policy_tokens"]["estimate"] - answers["reference_tokens"]["estimate"]
    assert answers["difference"]["estimate"] == pytest.approx(difference)
    assert result["win_rate"] is None


def test_an_adapters_reference_is_itself_with_the_adapter_off(tmp_path):
    from betahead.runs.answers import answer_ids, drawn_prompts
    from betahead.runs.opened import open_run

    run = tiny_run.finished_run(tmp_path, "model.adapter={kind: lora, rank: 2}", "train.learning_rate=0.1")
    opened = open_run(run.path, device="cpu")
    prompts = drawn_prompts(opened.held_out(), 5, 0)
    settings = {"samples": 2, "max_new_tokens": 6, "seed": 3, "batch_size": 4}
    base, trained = (answer_ids(opened, who, prompts, **settings) for who in ("reference", "policy"))
    assert base != trained
    with opened.model.policy.disable_adapter():
        assert answer_ids(opened, "policy", prompts, **settings) == base
    assert drawn_prompts(opened.held_out(), 3, 0)["prompt"] == prompts["prompt"][:3]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--judge", "me"], "`--judge` must be gold, reward:PATH or openai:BASE_URL, but is 'me' instead."),
        (["--judge", "openai:"], "`--judge` must be gold, reward:PATH or openai:BASE_URL, but is 'openai:' instead."),
        (["--judge", "openai:http://e.org"], "`--judge openai:` must come with --judge-model NAME, but there is none."),
        (
            ["--judge", "gold", "--judge-model", "m"],
            "`--judge-model` must be left out with `--judge gold`, which asks no endpoint, but is 'm' instead; "
            "remove it.",
        ),
        (
            ["--judge", "reward:x", "--judge-cache", "c"],
            "`--judge-cache` must be left out with `--judge reward`, which asks no endpoint, but is 'c' instead; "
            "remove it.",
        ),
        (
            ["--judge", "gold", "--judge-workers", "2"],
            "`--judge-workers` must be left out with `--judge gold`, which asks no endpoint, but is '2' instead; "
            "remove it.",
        ),
        (["--judge-prompts", "3"], "`--judge-prompts` must come with --judge, but is '3' without it; add --judge."),
        (["--yes"], "`--yes` must come with `--judge openai:…`, but does not; remove it."),
        (
            ["--judge", "gold", "--price-in", "1"],
            "`--price-in` and `--price-out` must come with `--judge openai:…`, but do not; remove them.",
        ),
        (
            ["--judge", "openai:http://e.org", "--judge-model", "m", "--price-in", "1"],
            "`--price-in` and `--price-out` must be given together, but one is missing; add it.",
        ),
        (
            ["--judge", "openai:http://e.org", "--judge-model", "m", "--price-in", "1", "--price-out", "inf"],
            "`--price-in` and `--price-out` must be finite, but are not.",
        ),
        (
            ["--judge", "openai:http://e.org", "--judge-model", "m", "--judge-key-env", "NO_SUCH_VARIABLE"],
            "`--judge-key-env` must name a variable that holds the key, but NO_SUCH_VARIABLE is not set.",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_loaded(words, sentence, tmp_path):
    assert refused(tmp_path / "no run", *words) == sentence


def test_the_page_on_evaluation_names_every_key(run):
    result = found(run, *SHORT[2:], "--kl-prompts", 2, "--kl-samples", 1, "--judge", "gold")
    page = (Path(__file__).parents[2] / "docs" / "eval.md").read_text().partition("## eval.json")[2]
    named = set(re.findall(r"`(?:\w+\.|\.)?(\w+)`", page))
    keys = set(result) | set(result["pairs"]) | set(result["pairs"]["rescaled"]) | set(result["kl"])
    keys |= set(asdict(Spent()))
    keys |= set(result["answers"]) | set(result["win_rate"]) | set(result["win_rate"]["canary"])
    assert keys - named == set()
