"""What the store stands on: the structure of the database, one numbered step after another, and the function that brings it up to date.

The store runs `upgrade` at every opening; nobody types an Alembic command, and there is no alembic.ini. To change the structure: change
`tables.py`, add the next file in `versions/` by hand, and let `tests/test_store.py` say whether the two agree. A published step is never
edited. Beside it: `database.py` opens the database and hands out transactions, `blob_files.py` keeps the files of audio.
"""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from lab.errors import LabError

# Alembic hands the migration its connection through module globals: two threads that open a store at once must take turns.
_one_at_a_time = threading.Lock()


class StoreError(LabError):
    """The data folder or the database refused, or something in it is missing or altered."""


class NewerDatabaseError(StoreError):
    """The database was written by a version of the lab that this one does not know."""


def upgrade(connection: Connection) -> None:
    """Bring the database behind `connection` to the newest structure, inside the caller's transaction.

    The caller holds the database's write lock, so two processes that open a fresh database at once do not both create its tables. Costs
    little where there is nothing to do. Raises `NewerDatabaseError` and changes nothing if the database is ahead of this code.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))  # % is configparser's own
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    found = set(MigrationContext.configure(connection).get_current_heads())
    newest = set(scripts.get_heads())
    if found == newest:
        return
    unknown = found - {step.revision for step in scripts.walk_revisions()}
    if unknown:
        where = connection.engine.url.render_as_string(hide_password=True)
        raise NewerDatabaseError(
            f"The database {where} was written by a newer version of the lab: it is at step {', '.join(sorted(unknown))}, and this version "
            f"knows steps up to {', '.join(sorted(newest))}. Nothing was changed. Update the lab, or choose another LAB_DATA_DIR."
        )
    with _one_at_a_time:
        command.upgrade(config, "head")
