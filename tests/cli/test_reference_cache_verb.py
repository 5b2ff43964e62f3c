"""`betahead train` twice: the second run finds what the first one scored, and says where."""

import re
import sys

import pyarrow.parquet as pq
import pytest
import tiny_run

from betahead.cli.main import main

CONFIG = """
model: {{name: {model}, dtype: float32}}
data: {{train: pairs.jsonl, max_length: 64, holdout: 0.25}}
beta: {{kind: fixed}}
train: {{max_steps: 2, per_device_train_batch_size: 4, learning_rate: 1.0e-3, logging_steps: 1, use_cpu: true}}
evaluate: {{prompts: 6, samples: 0}}
output: runs/one
"""


@pytest.fixture
def betahead(tmp_path, monkeypatch, capsys):
    tiny_run.write_rows(tmp_path / "pairs.jsonl", tiny_run.pair_rows())
    model = tiny_run.write_model(tmp_path / "model")
    (tmp_path / "one.yaml").write_text(CONFIG.format(model=model), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["betahead", "train", "one.yaml", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, re.findall("^reference  .*$", printed.out, re.MULTILINE), printed.out + printed.err

    return run


def test_a_second_run_scores_nothing(betahead, tmp_path):
    code, lines, out = betahead()
    assert code == 0, out
    where = "in pairs.jsonl.refcache"
    assert lines == [f"reference  0 of {rows} rows found, {rows} scored, {where}" for rows in (48, 16)]
    code, lines, out = betahead("output=runs/two", "seed=5", "train.learning_rate=0.1", "train.max_steps=1")
    assert code == 0, out
    assert [re.sub(r"\d+", "N", line) for line in lines] == [f"reference  N of N rows found, N scored, {where}"] * 2
    assert all(", 0 scored, " in line for line in lines), lines
    assert sum(int(line.split()[1]) for line in lines) == 64

    # A damaged file is said and costs what it held.
    (shard, *_) = sorted((tmp_path / "pairs.jsonl.refcache").rglob("*.parquet"))
    lost = pq.read_table(shard).num_rows
    shard.write_bytes(shard.read_bytes()[:-1])
    code, lines, out = betahead("output=runs/three")
    assert code == 0, out
    assert "skipped    " in out and str(shard.relative_to(tmp_path)) in out
    assert lost == 96
    assert lines[0] == f"reference  0 of 48 rows found, 48 scored, {where}"
    assert lines[1] == f"reference  16 of 16 rows found, 0 scored, {where}"


def test_a_named_folder_is_used_a_dry_run_and_a_live_reference_leave_none(betahead, tmp_path):
    code, _, out = betahead("--dry-run")
    assert code == 0, out
    assert "kept in pairs.jsonl.refcache" in " ".join(out.split())
    code, lines, out = betahead("reference.cache=live")
    assert (code, lines) == (0, []), out
    assert not (tmp_path / "pairs.jsonl.refcache").exists()
    code, lines, out = betahead("output=runs/two", "reference.cache=./named")
    assert code == 0, out
    assert all(line.endswith(" scored, in named") for line in lines), lines
    assert list((tmp_path / "named").rglob("*.parquet"))


def test_a_cache_that_is_a_file_is_one_sentence_and_leaves_no_run(betahead, tmp_path):
    code, _, out = betahead("reference.cache=./pairs.jsonl")
    assert code == 2
    wanted = "`reference.cache` must be `auto`, `live` or a folder, but pairs.jsonl is a file instead; name another."
    assert wanted in out
    assert not (tmp_path / "runs").exists()


def test_a_run_that_starts_from_a_trained_policy_says_what_its_reference_is(betahead, caplog):
    code, _, out = betahead("output=runs/one")
    assert (code, caplog.messages) == (0, []), out
    code, _, out = betahead("output=runs/two", "model.name=runs/one/policy")
    assert code == 0, out
    said = [message for message in caplog.messages if message.startswith("reference: ")]
    assert len(said) == 1, out
    assert "runs/one/policy holds beta_head.json, which training on pairs leaves beside a policy, so that " in said[0]
