"""The journal's tables as SQLAlchemy Core knows them; ``migrations/versions`` makes them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

METADATA = MetaData()

BIG = BigInteger().with_variant(Integer, "sqlite")
"""64 bits everywhere; SQLite numbers rows by itself only where the type is called INTEGER."""

facts = Table(
    "facts",
    METADATA,
    Column("seq", BIG, primary_key=True, autoincrement=True),
    Column("id", String(26), nullable=False, unique=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("run", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("vault", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Index("facts_at", "at_ns"),
    Index("facts_kind", "kind", "seq"),
    Index("facts_run", "run", sqlite_where=text("run <> ''"), postgresql_where=text("run <> ''")),
    sqlite_autoincrement=True,
)
"""Every fact once; ``seq`` grows in the order in which they came in, also on PostgreSQL, where writers take turns."""

runs = Table(
    "runs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("operation", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("vault", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("machine", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("pid_space", Text, nullable=False),
    Column("pid_started", BigInteger, nullable=False),
    Column("parent", Text, nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("finished_ns", BigInteger),
    Column("outcome", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Index("runs_started", "started_ns"),
    Index("runs_parent", "parent", sqlite_where=text("parent <> ''"), postgresql_where=text("parent <> ''")),
    Index("runs_of", "operation", "plan", "vault", "started_ns"),
    Index(
        "runs_open",
        "host",
        sqlite_where=text("finished_ns IS NULL"),
        postgresql_where=text("finished_ns IS NULL"),
    ),
)
"""One row a run, made of its facts ``run.started`` and ``run.finished``, whichever comes in first."""

outboxes = Table(
    "outboxes",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("offset", BigInteger, nullable=False),
)
"""How far each file of each outbox was read. ``identity`` is how the file begins: names are used again."""

cursors = Table(
    "cursors",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
)
"""How far in ``facts.seq`` a reader of the journal has come."""
