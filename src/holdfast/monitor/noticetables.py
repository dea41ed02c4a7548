"""The journal's tables of notices and deliveries as SQLAlchemy Core knows them; migration 0002 makes them."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, Table, Text, text

from holdfast.monitor.schema import BIG, METADATA

notices = Table(
    "notices",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("opened_ns", BigInteger, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
    Column("times", Integer, nullable=False),
    Column("tells", Integer, nullable=False),
    Column("told_ns", BigInteger, nullable=False),
    Column("told_times", Integer, nullable=False),
    Column("escalated_ns", BigInteger),
    Column("acknowledged_ns", BigInteger),
    Column("acknowledged_by", Text, nullable=False),
    Column("resolved_ns", BigInteger),
    Column("items", JSON, nullable=False),
    Column("data", JSON, nullable=False),
    Index(
        "notices_open",
        "host",
        "rule",
        "subject",
        unique=True,
        sqlite_where=text("resolved_ns IS NULL"),
        postgresql_where=text("resolved_ns IS NULL"),
    ),
)
"""Every machine looks after the notices of its own ``host``. Of a rule and a subject one at most is open."""

deliveries = Table(
    "deliveries",
    METADATA,
    Column("seq", BIG, primary_key=True, autoincrement=True),
    Column("host", Text, nullable=False),
    Column("notice", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("due_ns", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("lease", Text, nullable=False),
    Column("leased_until_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Index(
        "deliveries_waiting",
        "host",
        "due_ns",
        sqlite_where=text("state = 'waiting'"),
        postgresql_where=text("state = 'waiting'"),
    ),
    Index("deliveries_ended", "channel", "ended_ns"),
    sqlite_autoincrement=True,
)
"""What is to be told to whom: ``waiting``, then ``sent``, ``failed`` (given up), ``dropped`` (its channel is gone)
or ``replaced`` (by a newer message about the same notice, before anybody got it).
Whoever sends one holds its ``lease`` until ``leased_until_ns``; after that somebody else may."""

expected = Table(
    "expected",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("first_seen_ns", BigInteger, nullable=False),
)
"""Since when something is expected: what never happened is overdue from then on."""
