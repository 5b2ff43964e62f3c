"""The database behind a comparison: SQLite in a file, or PostgreSQL for many machines."""

import time
import warnings
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from betahead.errors import ConfigError
from betahead.runs.redaction import redacted

# How long a process waits for another's transaction.
_LOCK_SECONDS = 120
_RETRY_SECONDS = 0.5


def opened(url: str, *, heartbeat: int, grace: int) -> RDBStorage:
    """The Optuna storage at a URL, its tables made if need be.

    Args:
        url: as SQLAlchemy writes it; `postgresql://` means the driver psycopg.
        heartbeat: seconds between the beats of a worker.
        grace: seconds without one after which it counts as dead.

    Raises:
        ConfigError: it cannot be opened.
    """
    try:
        parsed = sqlalchemy.make_url(url)
        kind = parsed.get_backend_name()
        if parsed.drivername == "postgresql":  # SQLAlchemy's own default is another driver
            parsed = parsed.set(drivername="postgresql+psycopg")
        arguments: dict[str, Any] = {"timeout": _LOCK_SECONDS} if kind == "sqlite" else {}
        storage = _storage(parsed.render_as_string(hide_password=False), arguments, heartbeat, grace)
    except (ImportError, SQLAlchemyError, ValueError) as error:
        reason = redacted(str(error).strip().partition("\n")[0])
        raise ConfigError(
            "--storage must be the URL of a database, such as sqlite:///work.db or postgresql://user@host/name, but "
            f"{_shown(url)} cannot be opened ({reason})."
        ) from None
    if kind == "sqlite":
        _serialise(storage)
    return storage


def _storage(url: str, arguments: dict[str, Any], heartbeat: int, grace: int, tries: int = 3) -> RDBStorage:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                url,
                engine_kwargs={"connect_args": arguments, "pool_pre_ping": True},
                heartbeat_interval=heartbeat,
                grace_period=grace,
            )
    except (IntegrityError, ProgrammingError):  # another process has just made the tables
        if tries == 1:
            raise
        time.sleep(_RETRY_SECONDS)
        return _storage(url, arguments, heartbeat, grace, tries - 1)


def _shown(url: str) -> str:
    """The URL without its password."""
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "what was given"


def _serialise(storage: RDBStorage) -> None:
    """Let every transaction of SQLite take the write lock when it begins.

    It has no SELECT … FOR UPDATE: two processes could both read that a trial waits, and both claim it.
    """

    def no_hidden_begin(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    def begin_for_writing(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(storage.engine, "connect", no_hidden_begin)
    event.listen(storage.engine, "begin", begin_for_writing)
    # Connections made before that know nothing of it.
    storage.engine.dispose()
