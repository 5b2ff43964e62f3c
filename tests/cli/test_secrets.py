"""Tokens that were put into every door are found neither in a run's folder nor on the screen."""

import json

import pytest

from betahead.runs.launched import how_to_go_on
from betahead.runs.redaction import BLOT

HUB, OPENAI, LOGGER = "hf_" + "Zq9x" * 8, "sk-proj-" + "Zq9x" * 8, "Zq9x" * 10
PASSWORD = "Zq9xPassword"
SECRETS = (HUB, OPENAI, LOGGER, PASSWORD)


@pytest.fixture
def planted(world, monkeypatch):
    """The folder of `world`, with secrets in the environment."""
    for name, value in (("HF_TOKEN", HUB), ("OPENAI_API_KEY", OPENAI), ("WANDB_API_KEY", LOGGER)):
        monkeypatch.setenv(name, value)
    return world


def found_in(text):
    return [secret for secret in SECRETS if secret in text]


def test_a_run_holds_none_of_the_secrets_around_it(planted, betahead):
    code, out, err = betahead("train", "one.yaml", f"train.project={HUB}", "train.max_steps=2")
    assert code == 0, err
    assert found_in(out + err) == []
    files = [path for path in (planted / "runs" / "one").rglob("*") if path.is_file()]
    assert {"config.yaml", "run.json", "summary.json", "metrics.jsonl", "DONE"} <= {path.name for path in files}
    for path in files:
        assert found_in(path.read_bytes().decode("utf-8", errors="ignore")) == [], path
    assert BLOT in json.loads((planted / "runs" / "one" / "run.json").read_text())["command"]


@pytest.mark.parametrize(
    "words",
    [
        ("train", "one.yaml", f"train.hub_token={HUB}"),
        ("train", "one.yaml", f"train.hub_token={PASSWORD}"),
        ("train", "one.yaml", f"train.max_steps={HUB}"),
        ("train", "one.yaml", f"seed={OPENAI}"),
        ("train", "one.yaml", f"model.name=https://me:{PASSWORD}@nowhere.invalid/model"),
        ("train", "one.yaml", f"data.train=https://me:{PASSWORD}@nowhere.invalid/pairs.jsonl"),
        ("train", "one.yaml", f"model.{HUB}=1"),
        ("train", "one.yaml", f"beta.kind={LOGGER}"),
        ("train", f"{HUB}.yaml"),
        ("data", f"https://me:{PASSWORD}@nowhere.invalid/pairs.jsonl"),
        ("compare", "plan.yaml", "--storage", f"postgresql://me:{PASSWORD}@127.0.0.1:1/x"),
        ("compare", "plan.yaml", "--storage", f"nonsense://me:{PASSWORD}@127.0.0.1:1/x?password={PASSWORD}"),
        ("compare", "plan.yaml", "--storage", f"me:{PASSWORD}@127.0.0.1"),
    ],
)
def test_a_sentence_shows_no_secret(planted, betahead, words):
    (planted / "plan.yaml").write_text(
        "{name: small, question: x, cells: [tabular/half_noise], methods: {fixed: {}, joint_plus: {}}, rope: 0.01,"
        " axes: {learning_rate: {low: 0.01, high: 0.1}, beta: {low: 0.03, high: 0.3}}, seconds_per_run: 0.1,"
        " comparisons: [{a: joint_plus, b: fixed}]}"
    )
    code, out, err = betahead(*words)
    assert code == 2
    assert err.startswith("error: ") and found_in(out + err) == []


def test_the_command_that_goes_on_shows_no_secret(monkeypatch):
    words = ["train", "one.yaml", f"train.project={HUB}", f"train.hub_token={PASSWORD}", "seed=3"]
    monkeypatch.setattr("sys.argv", ["betahead", *words])
    line = how_to_go_on()
    assert found_in(line) == []
    assert line == f"`betahead train one.yaml 'train.project=hf_{BLOT}' 'train.hub_token={BLOT}' seed=3 --resume`"
