"""As much of the Hugging Face Hub's API on this machine as an upload of small files needs."""

import base64
import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from local_server import listening


@dataclass
class Hub:
    """Where it listens, which files a repository holds, and what was asked."""

    url: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@contextmanager
def hub_server(*, token: str) -> Generator[Hub]:
    """A hub that takes writes with this token alone."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.asked.append(self.path)
            hub.tokens.add(self.headers.get("Authorization"))
            if self.path == "/api/validate-yaml":
                return self._send(200, {"errors": [], "warnings": []})
            if self.headers.get("Authorization") != f"Bearer {token}":
                return self._send(401, {"error": "Invalid username or password."})
            if self.path == "/api/repos/create":
                return self._created(json.loads(body))
            _, _, _, owner, name, action, *_ = self.path.split("/")
            repository = f"{owner}/{name}"
            if action == "preupload":
                wanted = json.loads(body)["files"]
                return self._send(
                    200, {"files": [{"path": one["path"], "uploadMode": "regular"} | _KEPT for one in wanted]}
                )
            assert action == "commit", self.path
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    hub.files[repository][entry["value"]["path"]] = content
            place = f"{hub.url}/{repository}/commit/0123456"
            return self._send(200, {"commitUrl": place, "commitOid": "0123456", "pullRequestUrl": None})

        def do_GET(self) -> None:
            hub.asked.append(self.path)
            self._send(404, {"error": "Not found"})

        def _created(self, wanted: dict[str, Any]) -> None:
            owner = wanted.get("organization") or "somebody"
            repository = f"{owner}/{wanted['name']}"
            known = repository in hub.files
            hub.files.setdefault(repository, {})
            hub.private.setdefault(repository, wanted.get("visibility") == "private" or wanted.get("private") is True)
            self._send(
                409 if known else 200,
                {"url": f"{hub.url}/{repository}", "name": repository} | ({"error": "exists"} if known else {}),
            )

        def _send(self, status: int, value: dict[str, Any]) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with listening(Handler) as hub.url:
        yield hub


_KEPT = {"shouldIgnore": False, "oid": None}
