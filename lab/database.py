"""The database: opening it safely, and the two kinds of transaction. Knows nothing about what the tables mean."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from lab.migrations import StoreError, upgrade

_BUSY_SECONDS = 30.0
_POSTGRES_LOCK = 0x1AB57083  # any number that only the lab uses
_CONNECT_SECONDS = 10
# Threads queue for a connection in order; those that have one race for SQLite's lock, sleeping longer and longer, and for the interpreter's.
# 50 listeners at once on two busy cores waited for an answer to be stored (p95, SQLite / PostgreSQL): 15 connections 0.5 / 0.24 s, 5 0.13 / 0.06 s.
_CONNECTIONS = 5


class Database:
    """A SQLite or PostgreSQL database with the newest structure. Safe from several threads."""

    def __init__(self, url: str) -> None:
        """Open the database and bring it up to date. Raises `StoreError` (or its `NewerDatabaseError`) if that is not possible."""
        self._engine = _engine(url)
        # A reader sees one moment throughout, as SQLite gives it anyway: no deletion falls between its statements.
        one_moment = {"isolation_level": "REPEATABLE READ"} if self._engine.dialect.name == "postgresql" else {}
        self._reader = self._engine.execution_options(lab_reads=True, **one_moment)
        try:
            with self.write() as connection:
                upgrade(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the connections back. Using the database afterwards opens new ones."""
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Hold a transaction that changes something: committed at the end, rolled back by an exception.

        Only one exists at a time, in all threads and processes: what it reads stays true until it commits, on the disk beside it as well.
        Never open a second one, or a reading one, inside it. Raises `StoreError` if others hold it for half a minute.
        """
        with self._errors_for_people(), self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                patience = sa.func.set_config("lock_timeout", f"{_BUSY_SECONDS * 1000:.0f}ms", True)  # for this transaction
                connection.execute(sa.select(patience, sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)))
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Hold a transaction that changes nothing. It neither waits for a writer nor holds one up."""
        with self._errors_for_people(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def _errors_for_people(self) -> Iterator[None]:
        try:
            yield
        except (exc.IntegrityError, exc.ProgrammingError):
            raise  # a defect of the lab, which a friendly message would hide
        except (exc.DBAPIError, exc.TimeoutError, sqlite3.Error) as error:  # the last: bare from _prepare_sqlite
            where = self._engine.url.render_as_string(hide_password=True)
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            raise StoreError(
                f"The database {where} could not be used: {reason}. Check that it is running and may be written to, that its disk is not "
                "full, and that LAB_DATA_DIR and LAB_DATABASE_URL say what you mean."
            ) from error


def _engine(text: str) -> sa.Engine:
    try:
        url = sa.make_url(text)
    except exc.ArgumentError as error:  # its own message may repeat the password
        raise StoreError("LAB_DATABASE_URL is not a database URL. An example: postgresql://user@host/lab") from error
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise StoreError(f"LAB_DATABASE_URL names {url.get_backend_name()}. The lab works with sqlite and postgresql.")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise StoreError(
            "LAB_DATABASE_URL names a database in memory, which would keep nothing. Give it a file: sqlite:////folder/lab.sqlite3"
        )
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")  # what requirements.txt installs, whichever driver SQLAlchemy prefers
    options: dict[str, Any] = {"pool_size": _CONNECTIONS, "max_overflow": 0, "pool_timeout": _BUSY_SECONDS}
    if url.get_backend_name() == "sqlite":
        options |= {"connect_args": {"timeout": _BUSY_SECONDS}}
    else:
        options |= {
            "connect_args": {"connect_timeout": _CONNECT_SECONDS} if url.get_driver_name() == "psycopg" else {},
            "isolation_level": "READ COMMITTED",  # a writer sees what was committed while it waited for the lock
            "pool_pre_ping": True,  # a server that was restarted costs nobody a request
        }
    try:
        engine = sa.create_engine(url, **options)
    except (ImportError, exc.NoSuchModuleError) as error:
        driver = url.drivername.partition("+")[2] or "psycopg"
        raise StoreError(
            f"The database in LAB_DATABASE_URL needs the Python package {driver}, which is not installed. Install it first."
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # pysqlite's own half-automatic transactions would leave CREATE TABLE outside
    connection.execute("PRAGMA journal_mode=WAL")  # readers and the writer do not block each other
    connection.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA secure_delete=ON")  # a deleted voice's transcript does not stay in free pages


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer asks for the lock at once: a transaction that read first and then finds another writer is refused without waiting.
    reads = connection.get_execution_options().get("lab_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
