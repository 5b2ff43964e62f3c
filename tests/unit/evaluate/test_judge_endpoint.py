"""One question to a real server on this machine that answers, fails, stalls, hangs up and talks nonsense."""

import email.utils
import json
import threading
import time

import pytest
from judge_server import Trouble, judge_server, refusal

from betahead.errors import ConfigError, DataError
from betahead.evaluate.judge_endpoint import Endpoint

KEY = "sk-not-a-real-key-0123456789abcdef"


def endpoint(url, **settings):
    return Endpoint(base_url=url, model="judge", **{"first_wait": 0.01, "timeout": 5.0, "attempts": 4, **settings})


def replied(answer, **settings):
    """The reply of a server, and what the server saw."""
    with judge_server(answer) as server:
        asked = endpoint(server.url, **settings)
        body = asked.body([{"role": "system", "content": "s"}, {"role": "user", "content": '{"answer_1": "é"}'}])
        return asked.reply(body, threading.Event()), server


def failing_first(times, trouble):
    return lambda asked: trouble if asked.number < times else "Verdict: 1"


def test_a_question_arrives_as_the_protocol_has_it_and_the_reply_with_its_tokens_comes_back():
    reply, server = replied(lambda _: "Verdict: 2", key=KEY)
    assert (reply.text, reply.tokens_in, reply.tokens_out) == ("Verdict: 2", 100, 10)
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["Content-Type"] == "application/json"
    assert (asked.body["model"], asked.body["temperature"], asked.body["max_tokens"]) == ("judge", 0, 512)
    assert asked.body["messages"][1] == {"role": "user", "content": '{"answer_1": "é"}'}


def test_without_a_key_none_is_sent():
    _, server = replied(lambda _: "Verdict: 2")
    assert "Authorization" not in server.asked[0].headers


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(status=500, body=b"oops"),
        Trouble(status=503),
        Trouble(status=429),
        Trouble(hang_up=True),
        Trouble(body=b'{"choices": [{"message": {"content": "Verdict: 1"}}]}', cut=True),
        Trouble(body=b"<html>busy</html>"),
        Trouble(body=b'{"choices": []}'),
        Trouble(body=b"[1]"),
        Trouble(body=b'{"choices": "x", "usage": 3}'),
        Trouble(body=b"[" * 100_000),
    ],
    ids=lambda trouble: f"{trouble.status}-{trouble.body[:12]}-{trouble.cut}-{trouble.hang_up}",
)
def test_what_may_pass_is_asked_again(trouble):
    reply, server = replied(failing_first(2, trouble))
    assert reply.text == "Verdict: 1"
    assert len(server.asked) == 3


def test_a_reply_without_text_or_usage_is_an_empty_one():
    reply, _ = replied(lambda _: Trouble(body=b'{"choices": [{"message": {"content": null}}], "usage": null}'))
    assert (reply.text, reply.tokens_in, reply.tokens_out) == ("", None, None)
    reply, _ = replied(
        lambda _: Trouble(body=b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}}')
    )
    assert reply.tokens_in is None


def test_a_server_that_stalls_is_left_and_asked_again():
    began = time.monotonic()
    reply, server = replied(failing_first(1, Trouble(stall=30)), timeout=0.3)
    assert reply.text == "Verdict: 1"
    assert len(server.asked) == 2
    assert time.monotonic() - began < 10


def test_a_server_that_drips_bytes_is_left_after_the_same_time():
    drip = Trouble(body=b'{"choices": [{"message": {"content": "Verdict: 1"}}]}' * 20, drip=0.05)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"after 2 tries \(no answer within 0\.3 s\)"):
        replied(lambda _: drip, timeout=0.3, attempts=2)
    assert time.monotonic() - began < 10


def test_a_slow_server_is_waited_for():
    body = b'{"choices": [{"message": {"content": "Verdict: 2"}}]}'
    reply, server = replied(lambda _: Trouble(body=body, drip=0.002))
    assert reply.text == "Verdict: 2" and len(server.asked) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_wait_that_the_server_asks_for_is_kept(form):
    value = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2.0, usegmt=True)
    began = time.monotonic()
    replied(failing_first(1, Trouble(status=429, headers={"Retry-After": value})))
    assert time.monotonic() - began >= 0.9


def test_a_wait_in_the_past_or_in_no_form_is_none():
    for value in ("soon", "-5", email.utils.formatdate(0, usegmt=True)):
        began = time.monotonic()
        replied(failing_first(1, Trouble(status=429, headers={"Retry-After": value})))
        assert time.monotonic() - began < 5


def test_a_server_that_asks_to_wait_too_long_is_given_up():
    trouble = Trouble(status=429, headers={"Retry-After": "3600"})
    with pytest.raises(DataError) as caught:
        replied(lambda _: trouble)
    assert "after 1 tries (HTTP 429: {}, and asks to wait 3600 s)" in str(caught.value)


def test_a_server_that_never_answers_is_given_up_with_a_sentence():
    seen = []

    def answer(asked):
        seen.append(asked)
        return Trouble(status=500, body=json.dumps({"error": {"message": "the model\nis out"}}).encode())

    with pytest.raises(DataError) as caught:
        replied(answer)
    assert len(seen) == 4
    assert str(caught.value).endswith(
        "must answer, but did not after 4 tries (HTTP 500: the model is out); what it has answered is kept, so the "
        "same command goes on from there."
    )


def test_where_nobody_listens_the_sentence_says_so():
    with judge_server(lambda _: "") as server:
        url = server.url
    with pytest.raises(DataError, match=r"must answer, but did not after 2 tries \(ConnectionRefusedError"):
        endpoint(url, attempts=2).reply({}, threading.Event())


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "these are its own words: change what they name"),
        (401, "check --judge-key-env"),
        (403, "check --judge-key-env"),
        (404, "check the address and --judge-model"),
        (422, "these are its own words: change what they name"),
    ],
)
def test_a_refusal_is_not_asked_again_and_its_remedy_is_that_of_its_status(status, remedy):
    seen = []

    def answer(asked):
        seen.append(asked)
        return refusal(f"Incorrect API key provided: {KEY}.", status=status)

    with pytest.raises(ConfigError) as caught:
        replied(answer, key=KEY)
    assert len(seen) == 1
    assert str(caught.value).endswith(
        f"must take the question, but refuses it (HTTP {status}: Incorrect API key provided: <redacted>.); {remedy}."
    )


def test_a_refusal_without_a_word_says_that_there_is_no_reason():
    with pytest.raises(ConfigError) as caught:
        replied(lambda _: Trouble(status=400, body=b""))
    assert str(caught.value).endswith(
        "must take the question, but refuses it (HTTP 400); it gives no reason, so check the address, --judge-model "
        "and --judge-max-tokens."
    )


def test_an_endless_refusal_is_quoted_in_part():
    with pytest.raises(ConfigError) as caught:
        replied(lambda _: refusal("no " * 5000))
    assert len(str(caught.value)) < 600


def test_a_redirect_carries_the_key_nowhere():
    with judge_server(lambda _: "Verdict: 1") as other:
        away = Trouble(status=307, headers={"Location": f"{other.url}/chat/completions"})
        with pytest.raises(ConfigError, match="HTTP 307"):
            replied(lambda _: away, key=KEY)
        assert other.asked == []


def test_once_stopped_nothing_is_asked_again():
    stop = threading.Event()
    seen = []

    def answer(asked):
        seen.append(asked)
        stop.set()
        return Trouble(status=500)

    with judge_server(answer) as server, pytest.raises(DataError, match="after 1 tries"):
        endpoint(server.url, first_wait=30).reply({}, stop)
    assert len(seen) == 1


def test_the_key_is_in_no_representation():
    assert KEY not in repr(endpoint("https://example.org/v1", key=KEY))


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "example.org/v1", "ftp://example.org", "http://", "https://example.org/v1?key=x"]
)
def test_only_the_address_of_an_api_is_taken(url):
    with pytest.raises(ConfigError, match="must be the base URL of an API, such as https"):
        endpoint(url)


def test_an_address_with_a_password_is_refused_without_showing_it():
    with pytest.raises(ConfigError, match="must be a URL without a user or password, but has one; put the key") as one:
        endpoint("https://me:hunter2@example.org/v1")
    with pytest.raises(ConfigError, match=r"'…@example\.org") as other:
        endpoint("ftp://me:hunter2@example.org")
    assert "hunter2" not in str(one.value) + str(other.value)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ключ"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key):
    with pytest.raises(ConfigError) as caught:
        endpoint("https://example.org/v1", key=key)
    assert str(caught.value) == (
        "the variable of `--judge-key-env` must hold a key of plain characters without spaces, but does not."
    )
