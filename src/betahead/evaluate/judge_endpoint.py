"""One question to an OpenAI-compatible chat endpoint, asked until it is answered."""

import email.utils
import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from betahead.errors import ConfigError, DataError
from betahead.evaluate.judge_cache import Reply
from betahead.evaluate.judge_dialect import Changes, changed, wanted

# Worth asking again: too early, a conflict, too many requests, and whatever the server blames on itself.
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_MOST_BYTES = 8 * 1024 * 1024
_CHUNK = 64 * 1024
_MOST_WORDS = 300


class _PassingError(Exception):
    """A failure that may pass, with the seconds that the server asks to wait, if it does."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _RefusedError(Exception):
    """A refusal for good of a question in this form, with the status and what was said."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host, and turn the question into a GET."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Follow nowhere: the redirect is then an error like any other."""


_OPENER = urllib.request.build_opener(_NoRedirects)


@dataclass
class _Form:
    """The form that an endpoint takes, as far as it is known; threads may set it at once, to the same."""

    changes: Changes = frozenset()


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where and how a judge is asked.

    Args:
        base_url: of the API, such as `https://api.openai.com/v1`; `/chat/completions` is added.
        model: the judge's name there.
        key: sent as a bearer token; None sends none. It is never shown or written.
        max_tokens: of a reply.
        timeout: seconds for a whole reply.
        attempts: tries of a question before it is given up.
        first_wait: seconds before the second try at most; doubled for every further one, and drawn at random below
            that, so that many waiting questions do not come back together.
        longest_wait: seconds between two tries at most; a server that asks for more is given up.
    """

    base_url: str
    model: str
    key: str | None = field(default=None, repr=False)
    max_tokens: int = 512
    timeout: float = 120.0
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0
    _form: _Form = field(default_factory=_Form, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(
                "`--judge openai:` must be the base URL of an API, such as https://api.openai.com/v1, but is "
                f"{_without_password(self.base_url)!r} instead."
            )
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                "`--judge openai:` must be a URL without a user or password, but has one; put the key into an "
                "environment variable and name it with --judge-key-env."
            )
        # A header with a line break would be refused with the key in the message.
        if self.key is not None and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise ConfigError(
                "the variable of `--judge-key-env` must hold a key of plain characters without spaces, but does not."
            )

    @property
    def url(self) -> str:
        """The address that is asked."""
        return f"{self.base_url.rstrip('/')}/chat/completions"

    def body(self, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """All that decides a reply; it is sent as it is, or in the form that the endpoint turns out to take."""
        return {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }

    def reply(self, body: Mapping[str, Any], stop: threading.Event) -> Reply:
        """The reply to a body.

        Args:
            body: see `body`.
            stop: once set, nothing is waited for or asked again.

        Raises:
            ConfigError: the server refuses the question, which asking again would not change.
            DataError: the server did not answer, however often it was asked.
        """
        reason, attempt, changes = "", 0, self._form.changes
        while True:
            try:
                reply = self._asked(changed(body, changes))
            except _RefusedError as refusal:
                more = wanted(refusal.status, str(refusal), changes)
                if not more or stop.is_set():
                    raise self._refused(refusal) from None
                changes |= more
            except _PassingError as failure:
                reason = str(failure)
                attempt += 1
                if stop.is_set() or attempt == self.attempts:
                    break
                asked = failure.wait
                if asked is not None and asked > self.longest_wait:
                    reason = f"{reason}, and asks to wait {asked:.0f} s"
                    break
                spread = random.uniform(0.5, 1.0)  # not a number of the experiment: it may differ from run to run
                wait = min(self.longest_wait, self.first_wait * 2 ** (attempt - 1)) * spread
                if stop.wait(max(wait, asked or 0.0)):
                    break
            else:
                self._form.changes = changes  # only what was taken is remembered
                return reply
        raise DataError(
            f"the judge at {self.base_url} must answer, but did not after {attempt} tries ({self._shown(reason)}); "
            "what it has answered is kept, so the same command goes on from there."
        )

    def _asked(self, body: Mapping[str, Any]) -> Reply:
        request = urllib.request.Request(
            self.url,
            data=json.dumps(body).encode("ascii"),
            headers={"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "betahead"},
            method="POST",
        )
        if self.key is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        ends = time.monotonic() + self.timeout
        try:
            with _OPENER.open(request, timeout=self.timeout) as response:
                content = _content(response, ends)
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            slow = isinstance(cause, TimeoutError)
            detail = f"no answer within {self.timeout:g} s" if slow else f"{type(cause).__name__}: {cause}"
            raise _PassingError(detail) from None
        return _reply_in(content)

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        with error:
            try:
                said = error.read(_CHUNK).decode("utf-8", "replace")
            except (OSError, http.client.HTTPException):
                said = ""
        words = self._shown(" ".join(_error_words(said).split()))
        if error.code in _PASSING:
            return _PassingError(_reason(error.code, words), _retry_after(error.headers.get("Retry-After")))
        return _RefusedError(error.code, words)

    def _refused(self, refusal: _RefusedError) -> ConfigError:
        status, words = refusal.status, str(refusal)
        if status in {401, 403}:
            remedy = "check --judge-key-env"
        elif status in {404, 405} or status < 400:
            remedy = "check the address and --judge-model"
        elif words:
            remedy = "these are its own words: change what they name"
        else:
            remedy = "it gives no reason, so check the address, --judge-model and --judge-max-tokens"
        return ConfigError(
            f"the judge at {self.base_url} must take the question, but refuses it ({_reason(status, words)}); {remedy}."
        )

    def _shown(self, text: str) -> str:
        return text if self.key is None else text.replace(self.key, "<redacted>")


def _content(response: http.client.HTTPResponse, ends: float) -> bytes:
    """The whole body, if it comes in time: a server that sends a byte now and then keeps no socket's timeout."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if time.monotonic() > ends:
            raise TimeoutError
        if size > _MOST_BYTES:
            raise _PassingError(f"a reply of more than {_MOST_BYTES:,} bytes")
    if response.length:  # `read1` says nothing when the connection is closed too early
        raise http.client.IncompleteRead(b"".join(parts), response.length)
    return b"".join(parts)


def _reply_in(content: bytes) -> Reply:
    """What the first choice says, and how it ended; a reply that is no chat completion is worth asking again."""
    try:
        found: Any = json.loads(content)
        choice = found["choices"][0]
        text, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
        usage = found.get("usage") or {}
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise _PassingError("a reply that is no chat completion") from None
    tokens_in, tokens_out = (count if type(count) is int and count >= 0 else None for count in counts)
    return Reply(text=text if isinstance(text, str) else "", tokens_in=tokens_in, tokens_out=tokens_out, cut=cut)


def _reason(status: int, words: str) -> str:
    return f"HTTP {status}: {words[:_MOST_WORDS]}" if words else f"HTTP {status}"


def _error_words(said: str) -> str:
    """The sentence of an error as OpenAI's protocol has it, with the parameter it is about; else all that was said."""
    try:
        error = json.loads(said)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return said
    if not isinstance(error, dict):
        return str(error)
    found = cast("dict[str, Any]", error)
    words, name = str(found.get("message", found)), found.get("param")
    return words if not isinstance(name, str) or name in words else f"{words} ({name})"


def _retry_after(value: str | None) -> float | None:
    """The seconds of the header, which may also be a date; None for what is neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())


def _without_password(url: str) -> str:
    return url if "@" not in url else f"…@{url.rpartition('@')[2]}"
