"""`betahead eval` as a person and as a program call it."""

import json
import math
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import tiny_run
import typer
from typer.testing import CliRunner

from betahead.cli.eval import evaluate_run
from betahead.errors import DataError

SHORT = ("--kl-prompts", "3", "--kl-samples", "2", "--max-new-tokens", "4")
FRESH = [
    {"prompt": f"What is {thing}?", "chosen": f"It is {thing}, I think, of course.", "rejected": "Nobody can say."}
    for thing in ("a river", "a stone", "gold")
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.finished_run(tmp_path_factory.mktemp("eval")).path


def ran(*words):
    app = typer.Typer()
    app.command()(evaluate_run)
    return CliRunner(env={"NO_COLOR": "1"}).invoke(app, [*(str(word) for word in words), "--device", "cpu"])


def shown(*words):
    result = ran(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def found(*words):
    return json.loads(shown(*words, "--json"))


def test_json_on_stdout_and_nothing_else(run):
    words = [sys.executable, "-m", "betahead", "eval", str(run), "--json", "--device", "cpu", *SHORT]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    result = json.loads(done.stdout)
    assert done.stderr == ""
    assert result["run"] == str(run)
    assert result["kl"]["prompts"] == 3 and result["kl"]["answers"] == 6 and result["kl"]["max_new_tokens"] == 4
    assert result["kl"]["nats"] >= 0 and result["kl"]["standard_error"] > 0


def test_without_data_the_runs_held_out_pairs_are_scored(run):
    result = found(run, "--kl-prompts", 0)
    summary = json.loads((run / "summary.json").read_text())
    pairs = result["pairs"]
    assert result["data"].startswith("held out of ")
    assert result["kl"] is None
    assert pairs["pairs"] == summary["pairs"]["held_out"]
    assert pairs["accuracy"]["estimate"] == pytest.approx(summary["held_out"]["rewards/accuracies"])
    assert pairs["margin"]["estimate"] == pytest.approx(summary["held_out"]["margins/nats"], abs=1e-3)
    assert pairs["margin"]["low"] < pairs["margin"]["estimate"] < pairs["margin"]["high"]
    assert set(pairs["domains"]) == {"even", "odd"}


def test_data_of_ones_own_are_found_through_the_environment(run, tmp_path, monkeypatch):
    tiny_run.write_rows(tmp_path / "fresh.jsonl", FRESH)
    monkeypatch.setenv("BETAHEAD_DATA", str(tmp_path))
    result = found(run, "--data", "$BETAHEAD_DATA/fresh.jsonl", "--kl-prompts", 0)
    assert result["data"] == "$BETAHEAD_DATA/fresh.jsonl"
    assert (result["pairs"]["pairs"], result["pairs"]["prompts"]) == (3, 3)
    assert result["pairs"]["longer_wins"]["estimate"] == 1.0
    assert result["pairs"]["domains"] == {}


def test_prompts_that_were_trained_on_are_counted_beside_what_is_measured_on_them(run, tmp_path):
    split_off = found(run, "--kl-prompts", 0)
    assert split_off["shared_prompts"] == 0
    held_out = {row["prompt"] for row in pq.read_table(run / "prompts.parquet").to_pylist()}
    trained = next(row for row in tiny_run.pair_rows() if row["prompt"] not in held_out)
    unseen = next(row for row in tiny_run.pair_rows() if row["prompt"] in held_out)
    file = tiny_run.write_rows(tmp_path / "near.jsonl", [*FRESH, trained, unseen])
    assert found(run, "--data", file, "--kl-prompts", 0)["shared_prompts"] == 1
    assert "leak: 1 of the 5 prompts were trained on too; what is measured on them" in shown(
        run, "--data", file, "--kl-prompts", 0
    )
    tiny_run.write_rows(tmp_path / "fresh.jsonl", FRESH)
    assert "leak" not in shown(run, "--data", tmp_path / "fresh.jsonl", "--kl-prompts", 0)


def test_a_run_whose_training_data_are_gone_says_that_it_cannot_compare(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace(str(run.parent / "pairs.jsonl"), str(tmp_path / "gone.jsonl")))
    file = tiny_run.write_rows(tmp_path / "fresh.jsonl", FRESH)
    assert found(copy, "--data", file, "--kl-prompts", 0)["shared_prompts"] is None
    assert "leak unknown: the run's training data are no longer there" in shown(copy, "--data", file, "--kl-prompts", 0)
    for content, detail in (("{", "Expecting"), ("{}", "'data'"), (None, "No such file")):
        (copy / "run.json").unlink() if content is None else (copy / "run.json").write_text(content)
        error = ran(copy, "--data", file, "--kl-prompts", 0).exception
        assert isinstance(error, DataError)
        assert str(error).startswith(f"the run's record must be loadable from {copy / 'run.json'}, but is not (")
        assert detail in str(error)


def test_what_was_held_out_is_not_guessed_from_data_that_have_changed_since(run, tmp_path):
    copy, data = tmp_path / "run", tmp_path / "pairs.jsonl"
    shutil.copytree(run, copy)
    shutil.copy(run.parent / "pairs.jsonl", data)
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace(str(run.parent / "pairs.jsonl"), str(data)))
    before = found(copy, "--kl-prompts", 0)["pairs"]
    assert before == found(run, "--kl-prompts", 0)["pairs"]
    data.write_text(data.read_text() + json.dumps(FRESH[0]) + "\n")
    error = ran(copy, "--kl-prompts", 0).exception
    assert isinstance(error, DataError)
    assert str(error) == (
        f"`data.train` must be what the run was trained on, but {data} has changed since, and what was held out with "
        "it; restore it, or give pairs that the run has not seen as --data."
    )


def test_rows_that_were_left_out_are_counted(run, tmp_path):
    file = tiny_run.write_rows(tmp_path / "rows.jsonl", [*FRESH * 4, {**FRESH[0], "chosen": " "}])
    rows = found(run, "--data", file, "--kl-prompts", 0)["rows"]
    assert (rows["rows"], rows["kept"]) == (13, 12)
    assert rows["dropped"] == {"empty answer": {"count": 1, "where": [f"{file}:13"]}}
    assert "dropped 1 × empty answer" in " ".join(shown(run, "--data", file, "--kl-prompts", 0).split())


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(run):
    one, again, other = (found(run, *SHORT, "--seed", seed) for seed in (1, 1, 2))
    assert one == again
    assert one["kl"]["nats"] != other["kl"]["nats"]
    assert one["pairs"]["margin"]["estimate"] == other["pairs"]["margin"]["estimate"]
    assert one["pairs"]["margin"]["low"] != other["pairs"]["margin"]["low"]


def test_nothing_is_written_unless_asked_for(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    printed = found(run, "--kl-prompts", 0)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    shown(run, "--kl-prompts", 0, "--save")
    assert json.loads((run / "eval.json").read_text()) == printed
    (run / "eval.json").unlink()
    accuracy = printed["pairs"]["accuracy"]["estimate"]
    assert f"| implicit-reward accuracy | {accuracy:.3f} [" in (run / "policy" / "README.md").read_text()


def test_the_table_shows_every_number_with_its_interval(run):
    output = shown(run, *SHORT)
    result = found(run, *SHORT)
    accuracy = result["pairs"]["accuracy"]
    assert f"{accuracy['estimate']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]" in output
    for label in ("accuracy − longer answer", "longer answer wins", "NLL (a coin: 0.693)", "margin, nats", "β"):
        assert label in output
    rescaled = result["pairs"]["rescaled"]
    for label, key in (("NLL (a coin: 0.693)", "nll"), ("Brier (a coin: 0.25)", "brier"), ("ECE, 15 bins", "ece")):
        (line,) = [line for line in output.partition("domain")[0].splitlines() if label in line]
        for one in (result["pairs"][key], rescaled[key]):
            assert f"{one['estimate']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" in line
    assert rescaled["folds"] == 5
    kl = result["kl"]
    assert f"KL to the reference: {kl['nats']:.4g} ± {kl['standard_error']:.2g} (standard error) nats per" in output
    assert "from 6 answers of 4 tokens on average to 3 prompts" in output


def test_every_number_stands_by_domain_too(run):
    output = shown(run, *SHORT).partition("domain")[2]
    pairs = found(run, *SHORT)["pairs"]
    intervals = [name for name, value in pairs.items() if isinstance(value, dict) and "estimate" in value]
    assert len(intervals) == 9
    for domain, part in pairs["domains"].items():
        lines = [line for line in output.splitlines() if domain in line.split()]
        assert len(lines) == (3 if part["rescaled"] else 2) and f" {part['pairs']} " in lines[0]
        numbers = " ".join(" ".join(lines).split())
        shown_here = [part[name] for name in intervals]
        shown_here += [one for one in (part["rescaled"] or {}).values() if isinstance(one, dict)]
        for value in (float(one["estimate"]) for one in shown_here):
            words = [f"{value:{form}} [" for form in (".3f", "+.3f", ".3g", ".4g")]
            assert any(word in numbers for word in (["unknown"] if math.isnan(value) else words)), value
    assert all(label in output for label in ("longer answer wins", "ECE, 15 bins", "after one temperature of its own"))


def test_a_single_prompt_has_no_interval_and_no_standard_error(run, tmp_path):
    file = tiny_run.write_rows(tmp_path / "one.jsonl", FRESH[:1])
    output = shown(run, "--data", file, *SHORT)
    assert "[one prompt]" in output
    assert found(run, "--data", file, "--kl-prompts", 0)["pairs"]["rescaled"] is None
    assert "±" not in output


def test_the_file_it_was_trained_on_is_refused(run):
    pairs = run.parent / "pairs.jsonl"
    error = ran(run, "--data", pairs).exception
    assert isinstance(error, DataError)
    assert str(error) == (
        f"`--data` must hold pairs that the run has not seen, but {pairs} is what it was trained on; leave --data out "
        "to score the pairs that the run held out."
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "{path} must be a file, but does not exist; "),
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{', "{path}:2: the text must be JSON, but is malformed "),
        ('{"prompt": "a", "chosen": "b"}\n', "{path} must have the columns `chosen` and `rejected`, but has "),
    ],
)
def test_data_that_cannot_be_used_are_refused(run, tmp_path, content, sentence):
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_text(content)
    error = ran(run, "--data", path).exception
    assert isinstance(error, DataError)
    assert str(error).startswith(sentence.format(path=path))
