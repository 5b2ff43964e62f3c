import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betahead.report.run_files import read_run


@pytest.fixture
def run(learned, tmp_path):
    """A copy of a run without its models, to be broken."""
    shutil.copytree(learned, tmp_path / "run", ignore=shutil.ignore_patterns("policy", "checkpoints"))
    return tmp_path / "run"


def test_a_finished_run_is_read_whole(learned):
    found = read_run(learned, "run")
    assert (found.broken, found.missing, found.empty) == ((), (), False)
    assert found.of("beta", "kind") == "learned"
    assert found.of("beta", "nothing", "here") is None
    assert len(found.logged("loss")) == 2 and len(found.logged("eval_loss")) == 1
    assert {row["progress"] for row in found.prompts} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert all(row["chosen"] and row["rejected"] for row in found.last)


def test_an_empty_folder_is_no_run_and_every_file_is_named(tmp_path):
    found = read_run(tmp_path, "nothing")
    assert found.empty and found.broken == ()
    for name in ("config.yaml", "run.json", "metrics.jsonl", "prompts.parquet", "samples.jsonl", "summary.json"):
        assert f"{name} is not there." in found.missing
    assert found.missing[-1] == "The file DONE is not there: the run has not finished, or was stopped."


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("config.yaml", "a: [", "config.yaml cannot be read (configuration, line 1: the YAML must be well formed, but"),
        ("config.yaml", "- a", "config.yaml cannot be read (configuration: the configuration must be a mapping of"),
        ("config.yaml", "a: &x [1]\nb: *x", "config.yaml cannot be read (configuration, line 2: the YAML must be"),
        ("run.json", '{"a": 1', "run.json cannot be read (Expecting ',' delimiter: line 1 column 8 (char 7))."),
        ("summary.json", "[]", "summary.json cannot be read (it holds no keys)."),
        (
            "metrics.jsonl",
            '{"step": 1, "loss": 0.7}\n{"step": 2, "lo\n[3]\n',
            "metrics.jsonl has 2 lines that are no JSON object, the first of them line 2.",
        ),
        ("prompts.parquet", "PAR1", "prompts.parquet cannot be read ("),
    ],
)
def test_a_broken_file_is_a_sentence_and_the_rest_is_read(run, name, content, sentence):
    (run / name).write_text(content)
    found = read_run(run, "run")
    assert len(found.broken) == 1 and found.broken[0].startswith(sentence.rstrip("."))
    assert found.samples and not found.empty


def test_a_line_that_was_cut_leaves_the_lines_before_it(run):
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text + '{"step": 7, "loss"')
    found = read_run(run, "run")
    assert len(found.logged("loss")) == 2
    assert "the first of them line" in found.broken[0]


def test_a_table_without_a_column_is_broken(run):
    table = pq.read_table(run / "prompts.parquet")
    pq.write_table(table.drop_columns(["pc2"]), run / "prompts.parquet")
    assert read_run(run, "run").broken == ("prompts.parquet cannot be read (it has no column pc2).",)


def test_a_beta_that_is_no_number_is_left_out(run):
    rows = pq.read_table(run / "prompts.parquet").to_pylist()
    rows[0]["beta"], rows[1]["beta"] = float("nan"), None
    pq.write_table(pa.Table.from_pylist(rows), run / "prompts.parquet")
    assert len(read_run(run, "run").prompts) == len(rows) - 2


def test_numbers_that_diverged_are_left_out_of_curves(run):
    (run / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 0.7}\n{"step": 2, "loss": "nan"}\n{"step": "x", "loss": 1}\n'
        f'{{"step": 3, "loss": 1{"0" * 400}}}\n'
    )
    assert read_run(run, "run").logged("loss") == [(1, 0.7)]


def test_secrets_are_blotted_out_of_everything(run):
    secret = "hf_" + "A" * 30
    for name in ("config.yaml", "metrics.jsonl", "samples.jsonl"):
        path = run / name
        path.write_text(path.read_text(encoding="utf-8").replace("What is", f"{secret} is"), encoding="utf-8")
    (run / "config.yaml").write_text(f"model: {{name: {secret}}}\nhub_token: abc\n")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "command": f"betahead train --token {secret}"}))
    rows = pq.read_table(run / "prompts.parquet").to_pylist()
    rows[0] |= {"prompt": f"my key is {secret}", "chosen": f"password: {secret}"}
    pq.write_table(pa.Table.from_pylist(rows), run / "prompts.parquet")
    found = read_run(run, "run")
    assert secret not in repr(found)
    assert "abc" not in found.config_text
    assert "<redacted>" in found.record["command"]
