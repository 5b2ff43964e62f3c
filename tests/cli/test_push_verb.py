"""`betahead push` against a hub on this machine that speaks enough of the real one's API."""

import json
import os
import subprocess
import sys

import pytest
import tiny_run
from hub_server import hub_server
from huggingface_hub import ModelCard

TOKEN = "hf_" + "a" * 30
# One process for all uploads: what the Hub's library reads from the environment, it reads once.
DRIVER = """
import contextlib, io, json, os, sys
from betahead.cli.main import main
found = []
for token, words in json.loads(sys.argv[1]):
    os.environ["HF_TOKEN"] = token
    sys.argv = ["betahead", "push", *words]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    found.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.finished_run(tmp_path_factory.mktemp("push")).path


@pytest.fixture(scope="module")
def uploads(run, tmp_path_factory):
    """The hub, and how each upload ended: a private one, the same again, a wrong token, a name that is none."""
    calls = [
        (TOKEN, [str(run), "--to", "somebody/policy", "--private"]),
        (TOKEN, [str(run), "--to", "somebody/policy"]),
        ("hf_" + "b" * 30, [str(run), "--to", "somebody/other"]),
        (TOKEN, [str(run), "--to", "a/b/c"]),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    home = str(tmp_path_factory.mktemp("home"))
    with hub_server(token=TOKEN) as hub:
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, json.dumps(calls)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**environment, "HF_ENDPOINT": hub.url, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"},
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return hub, json.loads(done.stdout.splitlines()[-1])


def test_the_policy_its_card_and_its_head_arrive_as_they_lie_in_the_folder(run, uploads):
    hub, (first, again, *_) = uploads
    assert first == [0, f"{hub.url}/somebody/policy/commit/0123456\n", ""]
    assert again[0] == 0, again
    assert hub.private == {"somebody/policy": True}
    files = hub.files["somebody/policy"]
    policy = {path.relative_to(run / "policy").as_posix() for path in (run / "policy").rglob("*") if path.is_file()}
    assert files.keys() == policy | {"beta_head.json", "beta_head.safetensors"}
    for name in policy - {"README.md"}:
        assert files[name] == (run / "policy" / name).read_bytes()
    card = ModelCard(files["README.md"].decode())
    assert 'from_pretrained("somebody/policy")' in card.text
    assert "PATH_OR_NAME" not in card.text


def test_without_leave_to_write_the_sentence_says_what_to_do(uploads):
    hub, (_, _, (code, out, err), _) = uploads
    assert (code, out) == (2, "")
    assert err.startswith(
        "error: `--to` must be a repository that the Hub lets you write to, but 'somebody/other' is not ("
    )
    assert err.endswith("); log in with `hf auth login`, or choose another name.\n")
    assert "hf_bbb" not in err
    assert "somebody/other" not in hub.files


def test_a_name_that_is_none_is_refused(uploads):
    _, (*_, (code, _, err)) = uploads
    assert code == 2 and "but 'a/b/c' is not (" in err
