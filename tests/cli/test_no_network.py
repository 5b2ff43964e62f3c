"""On local folders no verb opens a connection, and importing the package opens nothing at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run

ROOT = Path(__file__).parents[2]

# Python reads this module when it starts, in processes that the command starts too.
_SITE = """
import socket, traceback
from pathlib import Path

RECORD = Path(__file__).with_name("connections.txt")


def _refuse(kind):
    def refused(*given, **named):
        with RECORD.open("a") as file:
            file.write(f"{kind} {given[1:] or given} {named}\\n" + "".join(traceback.format_stack(limit=12)))
        raise OSError("there is no network here")

    return refused


for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, _refuse(name))
for name in ("getaddrinfo", "create_connection", "gethostbyname"):
    setattr(socket, name, _refuse(name))
"""

_VERBS = """
import json, sys
from betahead.cli.main import app

codes = {}
for words in json.loads(sys.argv[1]):
    try:
        app(words, standalone_mode=False)
        codes[" ".join(words[:2])] = 0
    except SystemExit as stop:
        codes[" ".join(words[:2])] = stop.code
print(json.dumps(codes), file=sys.stderr)
"""

PLAN = """
name: small
question: Does it run?
cells: [tabular/half_noise]
methods: {fixed: {}, joint_plus: {}}
axes: {learning_rate: {low: 0.01, high: 0.1}, beta: {low: 0.03, high: 0.3}}
pool: {configurations: 4, trials: 2, seeds: 1}
finals: {seeds: 20}
rope: 0.01
seconds_per_run: 0.1
comparisons: [{a: joint_plus, b: fixed}]
"""

CONFIG = """
model: {{name: {folder}/model, dtype: float32}}
data: {{train: {folder}/pairs.jsonl, max_length: 64, holdout: 0.25}}
beta: {{kind: learned}}
train: {{max_steps: 1, per_device_train_batch_size: 4, use_cpu: true}}
evaluate: {{prompts: 4, samples: 1, max_new_tokens: 2}}
output: {folder}/run
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    tiny_run.write_model(folder / "model")
    tiny_run.write_rows(folder / "pairs.jsonl", tiny_run.pair_rows())
    (folder / "one.yaml").write_text(CONFIG.format(folder=folder))
    (folder / "plan.yaml").write_text(PLAN)
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(_SITE)
    return folder


def python(place, *words):
    """Run Python without a network, and without the settings that forbid it to the libraries."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(place / "site"), str(ROOT / "src")])
    environment["HF_HOME"] = str(place / "home")
    return subprocess.run(
        [sys.executable, *words], cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def connections(place):
    record = place / "site" / "connections.txt"
    found = record.read_text() if record.exists() else ""
    record.unlink(missing_ok=True)
    return found


def test_the_recorder_sees_a_connection(place):
    done = python(place, "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9')")
    assert done.returncode != 0
    assert connections(place)


def test_verbs_on_local_folders_open_no_connection(place):
    verbs = [
        ["data", "pairs.jsonl"],
        ["data", "pairs.jsonl", "--tokenizer", "model"],
        ["train", "one.yaml", "--dry-run"],
        ["train", "one.yaml"],
        ["inspect", "run", "--prompt", "What is rain?"],
        ["eval", "run"],
        ["methods"],
        ["compare", "plan.yaml", "--dry-run"],
        ["init", "--list"],
        ["doctor"],
    ]
    done = python(place, "-c", _VERBS, json.dumps(verbs))
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(json.loads(done.stderr.splitlines()[-1]).values()) == {0}, done.stderr[-3000:]
    assert connections(place) == ""


def test_importing_the_package_opens_nothing(place):
    program = """
import sys
watched = {"socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.mkdir", "os.remove", "os.rename"}
seen = []
sys.addaudithook(lambda name, given: seen.append((name, given)) if name in watched else None)
import betahead
print(seen)
"""
    done = python(place, "-B", "-c", program)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "[]\n"
    assert connections(place) == ""
