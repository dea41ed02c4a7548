"""Facts, runs, and how far outboxes and readers have come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "facts",
        sa.Column("seq", big, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(26), nullable=False, unique=True),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("vault", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("facts_at", "facts", ["at_ns"])
    op.create_index("facts_kind", "facts", ["kind", "seq"])
    named = sa.text("run <> ''")
    op.create_index("facts_run", "facts", ["run"], sqlite_where=named, postgresql_where=named)
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("vault", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("boot", sa.Text, nullable=False),
        sa.Column("pid_space", sa.Text, nullable=False),
        sa.Column("pid_started", sa.BigInteger, nullable=False),
        sa.Column("parent", sa.Text, nullable=False),
        sa.Column("started_ns", sa.BigInteger, nullable=False),
        sa.Column("finished_ns", sa.BigInteger),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_index("runs_started", "runs", ["started_ns"])
    inner = sa.text("parent <> ''")
    op.create_index("runs_parent", "runs", ["parent"], sqlite_where=inner, postgresql_where=inner)
    op.create_index("runs_of", "runs", ["operation", "plan", "vault", "started_ns"])
    running = sa.text("finished_ns IS NULL")
    op.create_index("runs_open", "runs", ["host"], sqlite_where=running, postgresql_where=running)
    op.create_table(
        "outboxes",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
