"""`betahead inspect` as a person and as a program call it."""

import json
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import tiny_run
import typer
from typer.testing import CliRunner

from betahead.cli.inspect import inspect_run
from betahead.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.finished_run(tmp_path_factory.mktemp("inspect")).path


@pytest.fixture(scope="module")
def fixed_run(tmp_path_factory):
    return tiny_run.finished_run(tmp_path_factory.mktemp("fixed"), "beta={kind: fixed, beta: 0.3}").path


def ran(*words):
    app = typer.Typer()
    app.command()(inspect_run)
    return CliRunner(env={"NO_COLOR": "1"}).invoke(app, [*(str(word) for word in words), "--device", "cpu"])


def shown(*words):
    result = ran(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_on_stdout_and_nothing_else(run):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "betahead",
            "inspect",
            str(run),
            "--prompt",
            "What is rain?",
            "--json",
            "--device",
            "cpu",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert found["run"] == str(run)
    assert found["rule"]["kind"] == "learned" and found["rule"]["bounds"] == [0.01, 1.0]
    assert found["held_out"]["progress"] == 1.0
    (prompt,) = found["prompts"]
    assert prompt["prompt"] == "What is rain?" and prompt["where"] == "--prompt 1"
    assert prompt["beta"] == pytest.approx(found["rule"]["beta/w"] * prompt["log_ppl"] * prompt["f"], rel=1e-5)
    assert prompt["pushed"] in ("up", "down")
    assert 0 <= prompt["beta_quantile"] <= 1 and 0 <= prompt["log_ppl_quantile"] <= 1


def test_options_and_file_come_together_in_this_order(run, tmp_path):
    file = tmp_path / "prompts.jsonl"
    messages = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "?"},
    ]
    file.write_text(json.dumps({"prompt": "What?"}) + "\n" + json.dumps({"prompt": messages}) + "\n")
    found = json.loads(shown(run, "--prompt", "One", "--prompts", file, "--prompt", "Two", "--json"))
    assert [prompt["where"] for prompt in found["prompts"]] == ["--prompt 1", "--prompt 2", f"{file}:1", f"{file}:2"]
    assert found["prompts"][3]["prompt"] == "user: Why?\n\nassistant: So.\n\nuser: ?"


def test_the_table_shows_each_prompt_on_a_line(run):
    words = ("--prompt", "What is rain?", "--prompt", "a\x1b[31m [red]b[/red]\n" + "c " * 30)
    output = shown(run, *words)
    lines = output.splitlines()
    (row,) = [line for line in lines if "What is rain?" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    found = json.loads(shown(run, *words, "--json"))["prompts"][0]
    assert cells[2] == f"{found['log_ppl']:.3f}"
    assert cells[4:7] == [f"{found['f']:.3f}", {"up": "↑", "down": "↓"}[found["pushed"]], f"{found['beta']:.4g}"]
    assert any("a [31m [red]b[/red] c c c" in line and "…" in line for line in lines)
    assert "\x1b" not in output
    assert cells[3] == f"{found['log_ppl_training_quantile']:.0%} / {found['log_ppl_quantile']:.0%}"
    assert cells[7] == f"{found['beta_training_quantile']:.0%} / {found['beta_quantile']:.0%}"
    assert "share with a smaller value, first of the run's training prompts (19 sampled, at the end)," in output
    assert "held-out prompts at 100% of training." in output


def test_a_prompt_is_placed_among_the_training_prompts_as_the_trained_policy_sees_them(run):
    kept = json.loads((run / "training_prompts.json").read_text())
    assert kept["prompts"] == len(kept["beta"]) == len(kept["log_ppl"]) == 19
    assert kept["beta"] == sorted(kept["beta"])
    held_out = {row["prompt"] for row in pq.read_table(run / "prompts.parquet").to_pylist()}
    trained = sorted({row["prompt"] for row in tiny_run.pair_rows()} - held_out)
    words = [word for prompt in trained for word in ("--prompt", prompt)]
    found = json.loads(shown(run, *words, "--json"))
    assert found["training"] == {"prompts": 19}
    assert sorted(view["beta"] for view in found["prompts"]) == pytest.approx(kept["beta"], rel=1e-4)
    places = sorted(view["beta_training_quantile"] for view in found["prompts"])
    assert places == pytest.approx([(n + 0.5) / 19 for n in range(19)], abs=0.053)


def test_a_run_that_kept_no_training_prompts_is_inspected_without_them(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "training_prompts.json").unlink()
    found = json.loads(shown(copy, "--prompt", "What is rain?", "--json"))
    assert found["training"] is None
    assert found["prompts"][0]["beta_training_quantile"] is None
    assert "training prompts (the run kept none)" in shown(copy, "--prompt", "What is rain?")
    (copy / "training_prompts.json").write_text("{}")
    broken = ran(copy, "--prompt", "What is rain?").exception
    assert str(broken).startswith(f"{copy / 'training_prompts.json'} must hold the run's training prompts, but is bro")


def test_a_fixed_beta_is_inspected_too(fixed_run):
    found = json.loads(shown(fixed_run, "--prompt", "What is rain?", "--json"))
    assert found["rule"] == {"kind": "fixed", "bounds": None, "ppl_from": "policy"}
    (prompt,) = found["prompts"]
    assert prompt["beta"] == pytest.approx(0.3)
    assert (prompt["f"], prompt["pushed"], prompt["beta_quantile"]) == (None, None, None)
    assert "–" in shown(fixed_run, "--prompt", "What is rain?")


def test_a_folder_is_left_as_it_was(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    shown(run, "--prompt", "What is rain?")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_mistake_is_one_sentence(run, tmp_path):
    def refused(kind, *words):
        error = ran(*words).exception
        assert type(error) is kind or isinstance(error, kind)
        return str(error)

    assert refused(ConfigError, run) == (
        'A prompt must be given, but there is none; add --prompt "…" or --prompts FILE.'
    )
    assert refused(DataError, tmp_path, "--prompt", "x").startswith("RUN must be the folder of a run, but ")
    assert refused(DataError, run, "--prompt", " ").startswith("--prompt 1: `prompt` must have words, but is empty ")
    assert refused(DataError, run, "--prompt", "word " * 200).startswith("--prompt 1: the prompt must be shorter than ")
    assert refused(DataError, run, "--prompts", tmp_path / "no.txt").startswith(
        f"{tmp_path / 'no.txt'} must be a file, "
    )


def test_a_run_of_transcripts_reads_a_plain_question_as_one(tmp_path):
    rows = [
        {name: f"\n\nHuman: {row['prompt']}\n\nAssistant: {row[name]}" for name in ("chosen", "rejected")}
        for row in tiny_run.pair_rows()
    ]
    folder = tiny_run.finished_run(tmp_path, rows=rows)
    assert "layout: auto" in folder.config.read_text()
    last = pq.read_table(folder.prompts).to_pylist()[-1]
    found = json.loads(shown(folder.path, "--prompt", last["prompt"], "--json"))["prompts"][0]
    assert (found["beta"], found["log_ppl"]) == pytest.approx((last["beta"], last["log_ppl"]), rel=1e-5)
