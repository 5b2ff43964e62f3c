"""Served to this machine alone."""

import socket

import pytest

from betahead.errors import ConfigError
from betahead.explore.serve import HOST, OnlyHere, listening


async def _inner(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"page"})


def asked(headers, *, port=7000, kind="http"):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    # Nothing in it waits for anything, so that it needs no event loop.
    with pytest.raises(StopIteration):
        OnlyHere(_inner, port)(scope, None, send).send(None)
    return sent


@pytest.mark.parametrize("host", ["127.0.0.1:7000", "localhost:7000"])
def test_this_machine_is_answered_and_its_browser_told_to_ask_nobody_else(host):
    start, body = asked({"host": host})
    assert start["status"] == 200 and body["body"] == b"page"
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"text/html"
    rules = headers[b"content-security-policy"].decode().split("; ")
    assert "default-src 'self'" in rules and "frame-ancestors 'none'" in rules
    assert not any("http" in rule or "*" in rule for rule in rules)
    assert headers[b"referrer-policy"] == b"no-referrer"


def test_the_page_itself_may_post():
    assert asked({"host": "127.0.0.1:7000", "origin": "http://127.0.0.1:7000"})[0]["status"] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example"},
        {"host": "evil.example:7000"},
        {"host": "127.0.0.1:7001"},
        {"host": "127.0.0.1:7000", "origin": "http://evil.example"},
        {"host": "127.0.0.1:7000", "origin": "null"},
        {"host": "127.0.0.1:7000", "origin": "https://127.0.0.1:7000"},
    ],
)
def test_another_host_or_origin_is_refused(headers):
    start, body = asked(headers)
    assert start["status"] == 403 and body["body"] == b"This page is for the machine it runs on.\n"
    assert asked(headers, kind="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_the_port_of_the_web_is_left_out_of_a_host():
    assert asked({"host": "127.0.0.1"}, port=80)[0]["status"] == 200
    assert asked({"host": "127.0.0.1"}, port=81)[0]["status"] == 403


def test_it_listens_on_this_machine_alone_and_port_0_finds_a_free_port():
    with listening(0) as place:
        host, port = place.getsockname()
        assert host == HOST and port > 0
        with socket.create_connection((HOST, port), timeout=5):
            pass


def test_a_port_that_is_taken_is_one_sentence():
    with listening(0) as place:
        port = place.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            listening(port)
    assert str(caught.value) == (
        f"`--port` must be free, but {port} is not (Address already in use); give another, or 0 for any that is."
    )
