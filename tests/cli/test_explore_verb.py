"""`betahead explore` before its page is there: what is missing or taken is one sentence."""

import importlib.metadata
import socket

import pytest


@pytest.fixture
def taken():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        place.listen()
        yield place.getsockname()[1]


def test_without_gradio_one_sentence_says_how_to_install_it(betahead, monkeypatch, tmp_path):
    def installed(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert betahead("explore", tmp_path) == (
        2,
        "",
        "error: `gradio` must be installed, 6 or newer, for `betahead explore`, but is not there; "
        "pip install 'betahead[explore]'.\n",
    )


def test_a_port_that_is_taken_is_said_before_the_run_is_opened(betahead, taken, tmp_path):
    code, out, err = betahead("explore", tmp_path / "nothing", "--port", taken)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: `--port` must be free, but {taken} is not (")


def test_a_folder_that_is_no_run_is_refused_as_by_the_other_verbs(betahead, tmp_path):
    code, out, err = betahead("explore", tmp_path, "--port", "0")
    assert (code, out) == (2, "")
    assert err == (
        f"error: RUN must be the folder of a run, but {tmp_path} has no config.yaml; name the `output` of a run.\n"
    )
