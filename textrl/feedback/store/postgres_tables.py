"""The tables of a store in PostgreSQL, in a schema of their own, and how they are made."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Float,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Table,
    Text,
    text,
)

from textrl.errors import UserError
from textrl.feedback.store.base import SCHEMA

#: The schema, so that the tables can stand in a database that holds other things.
NAMESPACE = "textrl_feedback"
#: Key of the advisory lock that whoever writes holds until the end of the transaction ("txrl").
LOCK = 0x7478726C
METADATA = MetaData(schema=NAMESPACE)
SESSIONS = Table(
    "sessions",
    METADATA,
    Column("session", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("created", Float(53), nullable=False),
    # Text and no jsonb, which would change the order of keys and how numbers are written.
    Column("config", Text, CheckConstraint("config::json IS NOT NULL"), nullable=False),
    Column("versions", Text, CheckConstraint("versions::json IS NOT NULL"), nullable=False),
    Column("number", BigInteger, Identity(), nullable=False),
)
EVENTS = Table(
    "events",
    METADATA,
    Column("seq", BigInteger, Identity(), primary_key=True),
    Column("uuid", Text, nullable=False, unique=True),
    Column("session", Text, ForeignKey(SESSIONS.c.session), nullable=False),
    Column("annotator", Text, nullable=False),
    Column("t_client", Float(53)),
    Column("t_server", Float(53), nullable=False),
    Column("env_step", BigInteger),
    Column("frame_id", BigInteger),
    Column("kind", Text, nullable=False),
    Column("payload", Text, CheckConstraint("payload::json IS NOT NULL"), nullable=False),
    Index("events_of_session", "session", "seq"),
)
ABOUT = Table("about", METADATA, Column("version", BigInteger, primary_key=True))
#: Names of the triggers that every store has.
GUARDS = frozenset(f"{table}_{word}" for table in ("sessions", "events") for word in ("kept", "whole"))
_REFUSE = f"""
CREATE FUNCTION {NAMESPACE}.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 'a feedback store only grows: rows cannot be changed or deleted'; END$$
"""


def create(write: Connection) -> None:
    """Make the tables where there are none; in a transaction that holds `LOCK`."""
    write.execute(text(f"CREATE SCHEMA IF NOT EXISTS {NAMESPACE}"))
    METADATA.create_all(write)
    write.execute(text(_REFUSE))
    for table in ("sessions", "events"):
        where = f"ON {NAMESPACE}.{table}"
        does = f"EXECUTE FUNCTION {NAMESPACE}.refuse()"
        each = f"BEFORE UPDATE OR DELETE {where} FOR EACH ROW"
        write.execute(text(f"CREATE TRIGGER {table}_kept {each} {does}"))
        write.execute(text(f"CREATE TRIGGER {table}_whole BEFORE TRUNCATE {where} {does}"))
    write.execute(ABOUT.insert().values(version=SCHEMA))


def check_schema(read: Connection, url: str) -> bool:
    """Return whether there is a store.

    Raises:
        UserError: When it is one of a newer textrl.
    """
    if read.execute(text(f"SELECT to_regclass('{NAMESPACE}.about')")).scalar() is None:
        return False
    version = read.execute(ABOUT.select()).scalar()
    if version is None:
        return False
    if version > SCHEMA:
        raise UserError(
            f"{url}: the store was written by a newer textrl (schema {version}; this one knows {SCHEMA}); "
            "update textrl."
        )
    return True
