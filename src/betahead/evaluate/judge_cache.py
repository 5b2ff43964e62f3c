"""Replies of a judge, kept in an SQLite file as they come: a killed evaluation pays for none of them twice.

A reply is found by the digest of everything that decides it: the address, the model, every word of the chat (which
holds both answers and their order), and the settings. The reply itself is kept and read anew each time, so a better
reading needs no new request.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from betahead.errors import CacheError

# How long a process waits for another's write.
_LOCK_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a judge wrote.

    Args:
        text: empty where it wrote nothing.
        tokens_in: of the question, by the provider's count; None where it counts none.
        tokens_out: of the reply, what was thought included; likewise.
        cut: whether it ended at the limit of tokens.
    """

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None
    cut: bool = False


def key_of(url: str, body: Mapping[str, Any]) -> str:
    """The digest of an address and of the whole body that is sent there."""
    text = json.dumps([url, body], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class JudgementCache:
    """Replies by key; threads and processes may share the file.

    Args:
        path: of the file, in a folder that exists; it is made when the first reply is kept.

    Raises:
        CacheError: the file is no SQLite database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = self._opened() if path.exists() else None

    def reply(self, key: str) -> Reply | None:
        """The reply that is kept, if any."""
        with self._lock:
            if self._database is None:
                return None
            try:
                row = self._database.execute(
                    "SELECT reply, tokens_in, tokens_out, cut FROM replies WHERE key = ?", (key,)
                ).fetchone()
            except sqlite3.Error as error:
                raise self._broken(error) from error
        if row is None:
            return None
        return Reply(text=str(row[0]), tokens_in=row[1], tokens_out=row[2], cut=bool(row[3]))

    def keep(self, key: str, reply: Reply) -> None:
        """Write a reply to the disk before anything else happens.

        Raises:
            CacheError: the file cannot be written.
        """
        with self._lock:
            self._database = self._database or self._opened()
            try:
                with self._database:
                    self._database.execute(
                        "INSERT OR REPLACE INTO replies (key, reply, tokens_in, tokens_out, cut) "
                        "VALUES (?, ?, ?, ?, ?)",
                        (key, reply.text, reply.tokens_in, reply.tokens_out, int(reply.cut)),
                    )
            except sqlite3.Error as error:
                raise self._broken(error) from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _opened(self) -> sqlite3.Connection:
        database = None
        try:
            database = sqlite3.connect(self.path, timeout=_LOCK_SECONDS, check_same_thread=False)
            with database:
                database.execute("BEGIN IMMEDIATE")  # two processes may open a new file, or an old one, at once
                database.execute(
                    "CREATE TABLE IF NOT EXISTS replies "
                    "(key TEXT PRIMARY KEY, reply TEXT NOT NULL, tokens_in INTEGER, tokens_out INTEGER, cut INTEGER)"
                )
                columns = {column[1] for column in database.execute("PRAGMA table_info(replies)")}
                if "cut" not in columns:  # of a file that is older than the column
                    database.execute("ALTER TABLE replies ADD COLUMN cut INTEGER")
        except sqlite3.Error as error:
            if database is not None:
                database.close()
            raise self._broken(error) from error
        return database

    def _broken(self, error: sqlite3.Error) -> CacheError:
        return CacheError(
            f"`--judge-cache` must be an SQLite file that can be read and written, but {self.path} is not ({error}); "
            "name another file."
        )
