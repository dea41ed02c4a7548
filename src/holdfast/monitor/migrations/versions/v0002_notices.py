"""Notices, their deliveries, and what is expected since when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "notices",
        sa.Column("id", sa.Text, primary_key=True),
        *(_text(name) for name in ("host", "rule", "subject", "level", "title", "message", "state", "plan", "run")),
        sa.Column("opened_ns", sa.BigInteger, nullable=False),
        sa.Column("updated_ns", sa.BigInteger, nullable=False),
        sa.Column("times", sa.Integer, nullable=False),
        sa.Column("tells", sa.Integer, nullable=False),
        sa.Column("told_ns", sa.BigInteger, nullable=False),
        sa.Column("told_times", sa.Integer, nullable=False),
        sa.Column("escalated_ns", sa.BigInteger),
        sa.Column("acknowledged_ns", sa.BigInteger),
        _text("acknowledged_by"),
        sa.Column("resolved_ns", sa.BigInteger),
        sa.Column("items", sa.JSON, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    is_open = sa.text("resolved_ns IS NULL")
    of_what = ["host", "rule", "subject"]
    op.create_index("notices_open", "notices", of_what, unique=True, sqlite_where=is_open, postgresql_where=is_open)
    op.create_table(
        "deliveries",
        sa.Column("seq", big, primary_key=True, autoincrement=True),
        *(_text(name) for name in ("host", "notice", "channel", "action", "level", "title", "body")),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("due_ns", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        _text("state"),
        _text("lease"),
        sa.Column("leased_until_ns", sa.BigInteger, nullable=False),
        sa.Column("ended_ns", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "deliveries_waiting", "deliveries", ["host", "due_ns"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_index("deliveries_ended", "deliveries", ["channel", "ended_ns"])
    op.create_table(
        "expected",
        sa.Column("host", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("first_seen_ns", sa.BigInteger, nullable=False),
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)
