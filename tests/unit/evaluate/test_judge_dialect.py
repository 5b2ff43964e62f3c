"""Endpoints that refuse a part of the protocol are asked in the form that they take: real servers that answer so."""

import threading

import pytest
from judge_server import COUNTED, Trouble, completion, judge_server, prefers, refusal

from betahead.errors import ConfigError
from betahead.evaluate.judge_cache import JudgementCache
from betahead.evaluate.judge_dialect import changed, wanted
from betahead.evaluate.judge_endpoint import Endpoint
from betahead.evaluate.judge_model import ModelJudge
from betahead.evaluate.matches import Match

NO_LIMIT = refusal(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    type="invalid_request_error",
    param="max_tokens",
    code="unsupported_parameter",
)
NO_TEMPERATURE = refusal(
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
    type="invalid_request_error",
    param="temperature",
    code="unsupported_value",
)
NO_SYSTEM = refusal("System role not supported")


def reasoning(asked):
    """As OpenAI's reasoning models answer: one refusal at a time."""
    if "max_tokens" in asked.body:
        return NO_LIMIT
    if "temperature" in asked.body:
        return NO_TEMPERATURE
    return "Verdict: 1"


def judge_of(server, path, **settings):
    endpoint = Endpoint(base_url=server.url, model="judge", **{"first_wait": 0.01, "timeout": 5.0, **settings})
    return ModelJudge(endpoint=endpoint, cache=JudgementCache(path), workers=1)


def matches(count):
    return [Match(prompt_id=str(n), prompt=f"q{n}", answer="longer", other="short") for n in range(count)]


def replies(answer, count=1, **settings):
    with judge_server(answer) as server:
        asked = Endpoint(base_url=server.url, model="judge", first_wait=0.01, timeout=5.0, **settings)
        body = asked.body([{"role": "system", "content": "Be fair."}, {"role": "user", "content": '{"a": 1}'}])
        return [asked.reply(body, threading.Event()) for _ in range(count)], server


def test_a_reasoning_model_is_asked_in_its_own_form_and_that_is_remembered():
    found, server = replies(reasoning, 3, max_tokens=700)
    assert [one.text for one in found] == ["Verdict: 1"] * 3
    bodies = [one.body for one in server.asked]
    assert [("max_tokens" in body, "temperature" in body) for body in bodies] == [
        (True, True),
        (False, True),
        (False, False),
        (False, False),
        (False, False),
    ]
    assert {body.get("max_tokens", body.get("max_completion_tokens")) for body in bodies} == {700}
    assert all(body["messages"] == bodies[0]["messages"] for body in bodies)


def test_a_refusal_that_names_the_parameter_in_its_field_alone_is_understood():
    field = refusal("Unsupported parameter.", param="max_tokens")
    found, server = replies(lambda asked: field if "max_tokens" in asked.body else "Verdict: 2")
    assert found[0].text == "Verdict: 2" and len(server.asked) == 2


def test_a_server_that_validates_with_422_is_understood_too():
    detail = Trouble(status=422, body=b'{"detail": [{"loc": ["body", "temperature"], "msg": "extra fields"}]}')
    found, server = replies(lambda asked: detail if "temperature" in asked.body else "Verdict: 2")
    assert found[0].text == "Verdict: 2" and server.asked[1].body["max_tokens"] == 512


def test_a_template_without_a_system_role_gets_its_words_in_the_question():
    found, server = replies(lambda asked: NO_SYSTEM if asked.body["messages"][0]["role"] == "system" else "Verdict: 2")
    assert found[0].text == "Verdict: 2"
    assert server.asked[1].body["messages"] == [{"role": "user", "content": 'Be fair.\n\n{"a": 1}'}]
    assert server.asked[1].body["temperature"] == 0


def test_a_form_that_is_refused_as_well_is_not_remembered_and_the_last_words_are_quoted():
    large = refusal("max_tokens is too large: 512. This model supports at most 100.", param="max_tokens")
    other = refusal("max_completion_tokens is too large: 512. This model supports at most 100.")
    with judge_server(lambda asked: large if "max_tokens" in asked.body else other) as server:
        asked = Endpoint(base_url=server.url, model="judge", timeout=5.0)
        body = asked.body([{"role": "user", "content": "x"}])
        for _ in range(2):
            with pytest.raises(ConfigError) as caught:
                asked.reply(body, threading.Event())
    assert ["max_tokens" in one.body for one in server.asked] == [True, False, True, False]
    assert str(caught.value).endswith(
        "must take the question, but refuses it (HTTP 400: max_completion_tokens is too large: 512. This model "
        "supports at most 100.); these are its own words: change what they name."
    )


def test_a_reply_is_kept_under_the_same_key_in_whatever_form_it_was_asked_for(tmp_path):
    def answer(asked):
        said = reasoning(asked)
        return said if isinstance(said, Trouble) else prefers(len)(asked)

    with judge_server(answer) as server:
        judge = judge_of(server, tmp_path / "kept.sqlite")
        first = judge.judgements(matches(3))
        assert len(server.asked) == 2 + 6
        assert (judge.spent.requests, judge.spent.counted) == (6, 6)
        again = judge_of(server, tmp_path / "kept.sqlite")  # knows nothing of the form
        assert again.outlay(matches(3)).requests == 0
        assert again.judgements(matches(3)) == first and len(server.asked) == 8
    assert [one.outcome for one in first] == [1.0] * 3


def test_judges_that_ask_at_once_learn_the_form_together(tmp_path):
    with judge_server(reasoning) as server:
        judge = judge_of(server, tmp_path / "kept.sqlite")
        judge.workers = 8
        assert all(one.outcome == 0.5 for one in judge.judgements(matches(20)))
        assert 40 + 2 <= len(server.asked) <= 40 + 2 * 8


def test_once_stopped_no_other_form_is_tried():
    stop = threading.Event()

    def answer(asked):
        stop.set()
        return reasoning(asked)

    with judge_server(answer) as server:
        asked = Endpoint(base_url=server.url, model="judge", timeout=5.0)
        with pytest.raises(ConfigError, match="'max_tokens' is not supported"):
            asked.reply(asked.body([]), stop)
        assert len(server.asked) == 1


def test_a_key_that_is_refused_is_no_matter_of_form():
    assert wanted(401, "max_tokens", frozenset()) == frozenset()
    assert wanted(400, "max_tokens", frozenset({"renamed limit"})) == frozenset()
    assert wanted(400, "max_completion_tokens is too large", frozenset()) == frozenset()
    body = {"messages": [{"role": "system", "content": "s"}]}
    assert changed(body, frozenset({"renamed limit", "own temperature", "no system role"})) == body


def test_a_reply_that_ends_at_its_limit_before_a_verdict_is_said_to_be_cut(tmp_path):
    def answer(asked):
        if asked.pair["answer_1"] == "longer":
            return Trouble(body=completion("", finish="length", usage=COUNTED))
        return Trouble(body=completion("Verdict: 2", finish="length", usage=COUNTED))

    with judge_server(answer) as server:
        for _ in range(2):  # asked, and then read from the file
            (found,) = judge_of(server, tmp_path / "kept.sqlite").judgements(matches(1))
            assert (found.outcome, found.orders) == (None, ("cut", "answer"))
        assert len(server.asked) == 2
