"""A chat endpoint on this machine that speaks OpenAI's protocol, and misbehaves as it is told."""

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from local_server import listening

Answer = Callable[["Asked"], "str | Trouble"]

COUNTED = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
"""What the server counts for each reply that is a text."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that goes wrong instead of a reply.

    Args:
        status: of a reply with an error.
        headers: of that reply.
        body: of any reply, in the place of a completion.
        stall: seconds before anything is said.
        drip: seconds between the bytes of the body.
        cut: send only half of what is announced, then hang up.
        hang_up: say nothing at all.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    stall: float = 0.0
    drip: float = 0.0
    cut: bool = False
    hang_up: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question as it came: how many came before, what it holds, and its headers."""

    number: int
    path: str
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def pair(self) -> dict[str, str]:
        """The request and the two answers."""
        said = self.body["messages"][-1]["content"]
        return json.loads(said[said.index("{") :])


@dataclass
class Server:
    """Where it listens, and what it was asked."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0


def completion(text: str | None, *, finish: str = "stop", usage: dict[str, int] | None) -> bytes:
    """The body of a reply, with what the server says it counted."""
    message = {"role": "assistant", "content": text}
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    return json.dumps(body if usage is None else body | {"usage": usage}).encode()


def refusal(message: str, *, status: int = 400, **more: Any) -> Trouble:
    """An error as OpenAI's protocol has it."""
    return Trouble(status=status, body=json.dumps({"error": {"message": message, **more}}).encode())


def prefers(better: Callable[[str], float]) -> Answer:
    """A judge that chooses the answer with the higher number, whatever the order."""

    def answer(asked: Asked) -> str:
        first, second = better(asked.pair["answer_1"]), better(asked.pair["answer_2"])
        return f"Because.\nVerdict: {'tie' if first == second else 1 if first > second else 2}"

    return answer


@contextmanager
def judge_server(answer: Answer) -> Generator[Server]:
    """A server whose replies are what `answer` makes of each question."""
    server, lock, at_once = Server(), threading.Lock(), [0]
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                asked = Asked(number=len(server.asked), path=self.path, body=body, headers=dict(self.headers))
                server.asked.append(asked)
                at_once[0] += 1
                server.most_at_once = max(server.most_at_once, at_once[0])
            try:
                said = answer(asked)
                self._send(said if isinstance(said, Trouble) else Trouble(body=completion(said, usage=COUNTED)))
            except (BrokenPipeError, ConnectionResetError):
                pass  # the judge's patience was at its end
            finally:
                with lock:
                    at_once[0] -= 1

        def _send(self, trouble: Trouble) -> None:
            closing.wait(trouble.stall)
            if trouble.hang_up:
                return
            self.send_response(trouble.status)
            for name, value in trouble.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(trouble.body)))
            self.end_headers()
            content = trouble.body[: len(trouble.body) // 2] if trouble.cut else trouble.body
            if not trouble.drip:
                self.wfile.write(content)
                return
            for byte in content:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if closing.wait(trouble.drip):
                    return

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with listening(Handler) as address:
        server.url = f"{address}/v1"
        try:
            yield server
        finally:
            closing.set()
