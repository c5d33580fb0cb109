"""Studies with their clips, and what listeners leave behind: sessions, their events, trials, ratings."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of the listening tests."""
    op.create_table(
        "studies",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("token", sa.String(22), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("manifest_sha256", sa.String(64), nullable=False),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("open_until", sa.DateTime(timezone=True)),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.Column("peeked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_studies"),
        sa.UniqueConstraint("token", name="uq_studies_token"),
    )
    op.create_table(
        "study_clips",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("study_id", "position", name="pk_study_clips"),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_study_clips_study_id_studies", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name="fk_study_clips_sha256_blobs"),
    )
    op.create_index("ix_study_clips_sha256", "study_clips", ["sha256"])
    op.create_table(
        "sessions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("token", sa.String(22), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("listener", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("token", name="uq_sessions_token"),
        sa.UniqueConstraint("study_id", "listener", name="uq_sessions_listener"),
        sa.UniqueConstraint("study_id", "number", name="uq_sessions_number"),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_sessions_study_id_studies", ondelete="CASCADE"),
    )
    op.create_table(
        "session_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_session_events"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_session_events_session_id_sessions", ondelete="CASCADE"),
    )
    op.create_index("ix_session_events_session_id", "session_events", ["session_id"])
    op.create_table(
        "trials",
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("presentation", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "number", name="pk_trials"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_trials_session_id_sessions", ondelete="CASCADE"),
    )
    op.create_table(
        "ratings",
        sa.Column("session_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("heard", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "number", "revision", name="pk_ratings"),
        sa.UniqueConstraint("session_id", "key", name="uq_ratings_key"),
        sa.ForeignKeyConstraint(
            ["session_id", "number"], ["trials.session_id", "trials.number"], name="fk_ratings_session_id_trials", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    """Drop them all again."""
    for table in ("ratings", "trials", "session_events", "sessions", "study_clips", "studies"):
        op.drop_table(table)
