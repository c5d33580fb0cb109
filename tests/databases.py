"""The databases that the storage tests run on: SQLite always, PostgreSQL where a server can be had. A pytest plugin; a module that wants it says so:

    pytest_plugins = ["tests.databases"]

`database_url` gives each test an empty database of each kind. LAB_TEST_POSTGRES_URL names a server whose user may create databases. Without it
a throw-away server is started, once per test process, from the programs of Debian's package `postgresql`. Without either these tests are
skipped; with CI set they fail.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from lab.store import Store

#: The throw-away server keeps nothing: what is tested is what a killed client leaves behind, not what a power cut does to the server.
_QUICK = ["fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_wal_size=256MB", "autovacuum=off", "jit=off"]


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    return found[-1].parent if found else None


def _server_user() -> list[str]:
    """What to put before a command so that it runs as somebody who is not root, as PostgreSQL demands; and ends when the tests do."""
    words = ["setpriv", "--pdeathsig", "QUIT"]
    if os.geteuid() == 0:
        words += ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    return [*words, "--"]


@contextmanager
def _server(programs: Path) -> Iterator[sa.URL]:
    folder = Path(tempfile.mkdtemp(prefix="lab-postgres-", dir="/tmp"))  # a short name: a socket's has at most 107 characters
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        make = [programs / "initdb", "-D", folder / "data", "-U", "lab", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([*_server_user(), *make], cwd=folder, check=True, capture_output=True, text=True, timeout=120)
        settings = [word for setting in [*_QUICK, "listen_addresses=", f"unix_socket_directories={folder}"] for word in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*_server_user(), programs / "postgres", "-D", folder / "data", *settings], cwd=folder, stdout=log, stderr=log
            )
        try:
            url = sa.URL.create("postgresql+psycopg", "lab", database="postgres", query={"host": str(folder)})
            _wait_for(url, server, folder / "log")
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # does not wait for clients
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: sa.URL, server: "subprocess.Popen[bytes]", log: Path) -> None:
    engine = sa.create_engine(url)
    until = time.monotonic() + 60
    while True:
        try:
            engine.connect().close()
            break
        except sa.exc.OperationalError:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.05)
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """A server where databases may be created: the URL of one that exists."""
    programs = _programs()
    if given := os.environ.get("LAB_TEST_POSTGRES_URL"):
        url = sa.make_url(given)
        yield url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
    elif programs:
        with _server(programs) as url:
            yield url
    else:
        reason = "no PostgreSQL server: apt-get install postgresql, or set LAB_TEST_POSTGRES_URL"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def postgres_url(postgres_server: sa.URL) -> Iterator[str]:
    """An empty PostgreSQL database, which is dropped after the test."""
    name = f"lab_test_{secrets.token_hex(6)}"
    admin = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0")
    yield postgres_server.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind in turn."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'lab.sqlite3'}"


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[Store]:
    """A store on each kind of database in turn."""
    store = Store.open(tmp_path / "data", database_url)
    yield store
    store.close()
