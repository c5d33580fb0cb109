"""Looking at a store from outside, as the tests of several modules do."""

from pathlib import Path

import sqlalchemy as sa

from lab.store import Store


def url_of(store: Store) -> str:
    """The database of `store`, for another process or another store."""
    return store.database._engine.url.render_as_string(hide_password=False)


def rows_of(store: Store) -> set[str]:
    """The hashes that have a row."""
    with store.database.read() as connection:
        return set(connection.scalars(sa.text("select sha256 from blobs")))


def files_of(folder: Path) -> set[str]:
    """Every file under the blob folder, unfinished ones included."""
    return {path.name for path in (folder / "blobs").rglob("*") if path.is_file()}
