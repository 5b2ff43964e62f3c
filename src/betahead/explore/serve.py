"""The page on this machine alone: bound to 127.0.0.1, asked by nobody else, asking nobody else."""

import importlib
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from betahead.errors import ConfigError
from betahead.explore.app import STYLE, gradio, theme

HOST = "127.0.0.1"
_HTTP = 80  # which an address leaves out
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio builds its page from both.
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class OnlyHere:
    """An application that answers this machine's own page and tells the browser to ask nobody else.

    A page of another site can reach 127.0.0.1 through the reader's browser, under its own name or one that it lets
    point here: requests with another host or origin are refused.

    Args:
        inner: what answers the rest.
        port: where it is served.
    """

    def __init__(self, inner: Application, port: int) -> None:
        self.inner = inner
        suffix = "" if port == _HTTP else f":{port}"
        self.hosts = {f"{name}{suffix}".encode() for name in (HOST, "localhost")}
        self.origins = {b"http://" + host for host in self.hosts}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
            return
        headers = dict(scope["headers"])
        theirs = headers.get(b"origin")
        if headers.get(b"host") not in self.hosts or (theirs is not None and theirs not in self.origins):
            await _refused(scope, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        await self.inner(scope, receive, marked)


async def _refused(scope: Message, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"This page is for the machine it runs on.\n"})


def listening(port: int) -> socket.socket:
    """A socket that takes connections of this machine; port 0 finds a free one.

    Raises:
        ConfigError: when the port is taken or not for this user.
    """
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
        found.listen()
    except (OSError, OverflowError) as error:
        found.close()
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"`--port` must be free, but {port} is not ({why}); give another, or 0 for any that is."
        ) from None
    return found


def serve(blocks: Any, place: socket.socket) -> None:
    """Serve the page until it is interrupted, then end quietly.

    Args:
        blocks: from `blocks_of`.
        place: from `listening`.
    """
    uvicorn, fastapi = (importlib.import_module(name) for name in ("uvicorn", "fastapi"))  # both come with Gradio
    port: int = place.getsockname()[1]
    outer = gradio().mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="/",
        server_name=HOST,
        server_port=port,
        footer_links=[],
        run_history=False,
        root_path="",
        allowed_paths=[],
        show_error=False,
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css_paths=Path(STYLE),
    )
    config = uvicorn.Config(OnlyHere(outer, port), log_level="error", timeout_graceful_shutdown=1)
    try:
        uvicorn.Server(config).run(sockets=[place])
    except KeyboardInterrupt:  # uvicorn has ended in order and says it once more.
        return
    finally:
        place.close()
