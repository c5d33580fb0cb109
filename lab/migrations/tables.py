"""The tables as the newest step leaves them. Later parts of the lab add theirs here, to the same `metadata`.

A table that refers to audio does so with a foreign key to `blobs.sha256`: the store finds every such column by itself (`blob_references`)
before it removes a blob. Audio is referred to in the transaction that stores it, never later.
"""

from datetime import UTC, datetime

import sqlalchemy as sa


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime, written and read as UTC (SQLite itself forgets the zone)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Convert to UTC; a naive time would be a guess and raises ValueError."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time must be aware")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Give an aware UTC time back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Names for every constraint: Alembic can only change later what has a name.
metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("sha256", sa.String(64), sa.CheckConstraint("length(sha256) = 64", name="whole_hash"), primary_key=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
)

# Files whose rows are gone and which are still to be removed: a crash in between is made good at the next opening.
discards = sa.Table("discards", metadata, sa.Column("sha256", sa.String(64), primary_key=True))

comparisons = sa.Table(
    "comparisons",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token", sa.String(22), nullable=False, unique=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),  # JSON as ASCII text: PostgreSQL's JSONB would reorder keys and refuse \u0000
)

comparison_clips = sa.Table(
    "comparison_clips",
    metadata,
    sa.Column("comparison_id", sa.ForeignKey(comparisons.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.ForeignKey(blobs.c.sha256), nullable=False, index=True),
)

voices = sa.Table(
    "voices",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token", sa.String(22), nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("transcript", sa.Text, nullable=False),
    sa.Column("language", sa.String(16), nullable=False),
    sa.Column("sha256", sa.ForeignKey(blobs.c.sha256), nullable=False, index=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("consent_text", sa.Text, nullable=False),
    sa.Column("consented_at", UtcTime, nullable=False),
)

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token", sa.String(22), nullable=False, unique=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("type", sa.String(16), nullable=False),  # this and the title repeat the manifest, for people who look at the table
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("manifest", sa.Text, nullable=False),  # ASCII JSON; so are presentations, answers, heard, comments and events' values
    sa.Column("manifest_sha256", sa.String(64), nullable=False),
    sa.Column("secret", sa.String(64), nullable=False),
    sa.Column("open_until", UtcTime),
    sa.Column("closed_at", UtcTime),
    sa.Column("peeked_at", UtcTime),
)

study_clips = sa.Table(
    "study_clips",
    metadata,
    sa.Column("study_id", sa.ForeignKey(studies.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.ForeignKey(blobs.c.sha256), nullable=False, index=True),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token", sa.String(22), nullable=False, unique=True),
    sa.Column("study_id", sa.ForeignKey(studies.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("listener", sa.String(64), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.UniqueConstraint("study_id", "listener", name="uq_sessions_listener"),
    sa.UniqueConstraint("study_id", "number", name="uq_sessions_number"),
)

session_events = sa.Table(
    "session_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("session_id", sa.ForeignKey(sessions.c.id, ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
)

trials = sa.Table(
    "trials",
    metadata,
    sa.Column("session_id", sa.ForeignKey(sessions.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("presentation", sa.Text, nullable=False),
)

# Append-only: the answer that stands is the one with a trial's highest revision.
ratings = sa.Table(
    "ratings",
    metadata,
    sa.Column("session_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("heard", sa.Text, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.ForeignKeyConstraint(["session_id", "number"], [trials.c.session_id, trials.c.number], ondelete="CASCADE"),
    sa.UniqueConstraint("session_id", "key", name="uq_ratings_key"),
)


def blob_references() -> list[sa.Column[str]]:
    """Every column, in any table of `metadata`, that refers to a blob."""
    return [key.parent for table in metadata.tables.values() for key in table.foreign_keys if key.column is blobs.c.sha256]
