"""`betahead push` against a hub on this machine that speaks enough of the real one's API."""

import os
import subprocess
import sys

import pytest
import tiny_run
from hub_server import hub_server
from huggingface_hub import ModelCard

TOKEN = "hf_" + "a" * 30


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.finished_run(tmp_path_factory.mktemp("push")).path


def pushed(hub, home, *words, token=TOKEN):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_TOKEN": token} if token else {}
    return subprocess.run(
        [sys.executable, "-m", "betahead", "push", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment,
    )


def test_the_policy_its_card_and_its_head_arrive_as_they_lie_in_the_folder(run, tmp_path):
    with hub_server(token=TOKEN) as hub:
        done = pushed(hub, tmp_path, run, "--to", "somebody/policy", "--private")
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout == f"{hub.url}/somebody/policy/commit/0123456\n"
        again = pushed(hub, tmp_path, run, "--to", "somebody/policy")
        assert again.returncode == 0, again.stderr[-3000:]
    assert hub.private == {"somebody/policy": True}
    files = hub.files["somebody/policy"]
    policy = {path.relative_to(run / "policy").as_posix() for path in (run / "policy").rglob("*") if path.is_file()}
    assert files.keys() == policy | {"beta_head.json", "beta_head.safetensors"}
    for name in policy - {"README.md"}:
        assert files[name] == (run / "policy" / name).read_bytes()
    card = ModelCard(files["README.md"].decode())
    assert 'from_pretrained("somebody/policy")' in card.text
    assert "PATH_OR_NAME" not in card.text


def test_without_leave_to_write_the_sentence_says_what_to_do(run, tmp_path):
    with hub_server(token=TOKEN) as hub:
        done = pushed(hub, tmp_path, run, "--to", "somebody/policy", token="hf_" + "b" * 30)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: `--to` must be a repository that the Hub lets you write to, but 'somebody/policy' is not ("
    )
    assert "; log in with `hf auth login`, or choose another name." in done.stderr
    assert "hf_bbb" not in done.stderr
    assert hub.files == {}


def test_a_name_that_is_none_is_refused(run, tmp_path):
    with hub_server(token=TOKEN) as hub:
        done = pushed(hub, tmp_path, run, "--to", "a/b/c")
    assert done.returncode == 2 and "but 'a/b/c' is not (" in done.stderr
    assert hub.files == {}
