"""What a run makes of a typed prompt."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from betahead.data.rows import Row
from betahead.errors import ConfigError, DataError
from betahead.explore.explorer import Sampling
from betahead.runs.inspected import Inspector

SAMPLING = Sampling(max_new_tokens=9, temperature=1.0, seed=3)
PROMPT = "What is rain?"


def texts(answers):
    return ["".join(piece.text for piece in answer.pieces) for answer in answers]


def test_a_view_is_what_inspecting_the_prompt_gives(explorer_of):
    explorer = explorer_of("learned")
    inspector = Inspector(explorer.opened)
    (wanted,) = inspector.views(inspector.records([Row(values={"prompt": PROMPT}, where="--prompt 1")]))
    assert explorer.view(PROMPT) == replace(wanted, where="typed")


def test_beta_is_that_of_the_words(explorer_of):
    explorer = explorer_of("learned")
    assert explorer.view(PROMPT).beta != explorer.view(f"{PROMPT} Really?").beta
    assert explorer.view(PROMPT) == explorer.view(PROMPT)


@pytest.mark.parametrize("name", ["learned", "adapter"])
def test_the_policy_and_the_reference_answer_and_each_answer_is_scored_by_both(explorer_of, name):
    explorer = explorer_of(name)
    policy, reference = explorer.answers(PROMPT, SAMPLING)
    assert (policy.by, reference.by) == ("policy", "reference")
    for answer in (policy, reference):
        assert 1 <= answer.tokens <= 9
        assert answer.cut == (not answer.pieces[-1].special)
        assert answer.log_ratio == pytest.approx(sum(piece.policy - piece.reference for piece in answer.pieces))
        assert all(piece.policy < 0 and piece.reference < 0 for piece in answer.pieces)
    assert any(abs(piece.log_ratio) > 1e-3 for piece in policy.pieces)


def test_the_reference_of_an_adapter_is_the_model_under_it(explorer_of):
    explorer = explorer_of("adapter")
    opened = explorer.opened
    assert opened.reference_model is None
    (record,) = explorer.inspector.records([Row(values={"prompt": PROMPT}, where="typed")])
    policy = opened.model.policy
    with torch.no_grad(), policy.disable_adapter():
        logps = policy(torch.tensor([record["prompt_ids"]])).logits[0, -1].log_softmax(-1)
    (piece,) = explorer.answers(PROMPT, Sampling(max_new_tokens=1, temperature=0.0, seed=0))[1].pieces
    assert piece.text == opened.tokenizer.decode([int(logps.argmax())])
    assert piece.reference == pytest.approx(float(logps.max()), abs=1e-5)
    assert piece.policy != pytest.approx(piece.reference, abs=1e-4)


def test_the_same_seed_gives_the_same_answers_and_another_one_others(explorer_of):
    explorer = explorer_of("learned")
    again = texts(explorer.answers(PROMPT, SAMPLING))
    assert texts(explorer.answers(PROMPT, SAMPLING)) == again
    assert texts(explorer.answers(PROMPT, replace(SAMPLING, seed=4))) != again


def test_threads_that_ask_at_once_get_what_each_would_get_alone(explorer_of):
    explorer = explorer_of("adapter")
    prompts = [PROMPT, "Tell me of bread.", "Where does one find silence?"]
    alone = [(explorer.view(prompt), texts(explorer.answers(prompt, SAMPLING))) for prompt in prompts]
    with ThreadPoolExecutor(6) as threads:
        views = list(threads.map(explorer.view, prompts * 2))
        answers = list(threads.map(lambda prompt: texts(explorer.answers(prompt, SAMPLING)), prompts * 2))
    assert views == [view for view, _ in alone] * 2
    assert answers == [found for _, found in alone] * 2


def test_a_prompt_that_is_too_long_or_empty_and_settings_out_of_range_are_refused(explorer_of):
    explorer = explorer_of("learned")
    with pytest.raises(DataError, match=r"^typed: the prompt must be shorter than the run's `data.max_length` of 96 "):
        explorer.view("rain " * 90)
    with pytest.raises(DataError, match=r"^typed: "):
        explorer.answers("", SAMPLING)
    with pytest.raises(ConfigError, match="`temperature` must be at least 0, but is -1"):
        explorer.answers(PROMPT, replace(SAMPLING, temperature=-1.0))


def test_a_rule_without_a_beta_of_the_prompt_still_answers(explorer_of):
    explorer = explorer_of("batch")
    with pytest.raises(ConfigError, match=r"^a β of prompts must come from a rule that reads the prompt"):
        explorer.view(PROMPT)
    assert len(explorer.answers(PROMPT, SAMPLING)) == 2
