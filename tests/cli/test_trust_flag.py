"""Whoever opens a run says whether the code of its model may run, not the run."""

import pytest

VERBS = [("inspect", "--prompt", "What is rain?"), ("eval",), ("explore", "--port", "0")]


@pytest.mark.parametrize(("verb", "words"), [(verb, words) for verb, *words in VERBS])
def test_a_verb_opens_a_run_that_asks_for_code_only_with_the_flag(world, betahead, verb, words):
    if verb == "explore":
        pytest.importorskip("gradio")
    run = world / "run"
    (run / "policy").mkdir(parents=True)
    (run / "DONE").touch()
    text = (world / "one.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("dtype: float32", "dtype: float32, trust_remote_code: true"))
    code, _, err = betahead(verb, run, *words, "--device", "cpu")
    assert code == 2 and err.startswith(f"error: `--trust-remote-code` must be given for {run}, whose config.yaml")
    code, _, err = betahead(verb, run, *words, "--device", "cpu", "--trust-remote-code")
    assert code == 2 and err.startswith("error: ") and "--trust-remote-code" not in err
    assert f"{run}" in err
