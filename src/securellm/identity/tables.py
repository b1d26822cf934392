"""The tables of people, services and their credentials, and how a row becomes a noun."""

from typing import Any, TypeVar

import msgspec
from sqlalchemy import Column, Index, PrimaryKeyConstraint, Row, UniqueConstraint

from securellm.storage import BYTES, FLAG, INTEGER, JSON, TEXT, tenant_table

T = TypeVar("T")

INSTALLATION = ""
"""How a row says that it belongs to no tenant."""

PROJECTS = tenant_table(
    "projects",
    Column("id", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("created_us", INTEGER, nullable=False),
    Column("etag", INTEGER, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
)
USERS = tenant_table(
    "users",
    Column("id", TEXT, primary_key=True),
    Column("name", TEXT, nullable=False),
    Column("email", TEXT, nullable=False),
    Column("issuer", TEXT),
    Column("subject", TEXT),
    Column("disabled", FLAG, nullable=False),
    Column("created_us", INTEGER, nullable=False),
    Column("etag", INTEGER, nullable=False),
    UniqueConstraint("issuer", "subject"),
)
SERVICES = tenant_table(
    "services",
    Column("id", TEXT, primary_key=True),
    Column("project", TEXT),
    Column("name", TEXT, nullable=False),
    Column("issuer", TEXT),
    Column("subject", TEXT),
    Column("models", JSON, nullable=False),
    Column("surfaces", JSON, nullable=False),
    Column("ip_ranges", JSON, nullable=False),
    Column("disabled", FLAG, nullable=False),
    Column("created_us", INTEGER, nullable=False),
    Column("etag", INTEGER, nullable=False),
    UniqueConstraint("issuer", "subject"),
)
GRANTS = tenant_table(
    "grants",
    Column("id", TEXT, primary_key=True),
    Column("principal", TEXT, nullable=False),
    Column("role", TEXT, nullable=False),
    Column("project", TEXT),
    Column("created_us", INTEGER, nullable=False),
    Column("created_by", TEXT, nullable=False),
    Index(None, "principal"),
)
ACCESS_TOKENS = tenant_table(
    "access_tokens",
    Column("id", TEXT, primary_key=True),
    Column("principal", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("prefix", TEXT, nullable=False),
    Column("digest", BYTES, nullable=False, unique=True),
    Column("created_us", INTEGER, nullable=False),
    Column("created_by", TEXT, nullable=False),
    Column("expires_us", INTEGER, nullable=False),
    Column("revoked_us", INTEGER),
    Index(None, "principal"),
    followed=False,
)
ONE_TIME = tenant_table(
    "one_time_secrets",
    Column("digest", BYTES, primary_key=True),
    Column("purpose", TEXT, nullable=False),
    Column("subject", TEXT, nullable=False),
    Column("expires_us", INTEGER, nullable=False),
    followed=False,
)
"""Set-up tokens, invitations, and the states of logins that were used: each row is taken once."""
SESSIONS = tenant_table(
    "sessions",
    Column("digest", BYTES, primary_key=True),
    Column("principal", TEXT, nullable=False),
    Column("issuer", TEXT, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("created_us", INTEGER, nullable=False),
    Column("seen_us", INTEGER, nullable=False),
    Index(None, "principal"),
    followed=False,
)


def values_of(noun: msgspec.Struct) -> dict[str, Any]:
    """The row of a noun."""
    values = msgspec.structs.asdict(noun)
    return {**values, "tenant": values["tenant"] or INSTALLATION}


def noun_of(row: Row[Any], noun: type[T]) -> T:
    """The noun of a row."""
    values = {str(name): value for name, value in row._mapping.items()}
    return msgspec.convert({**values, "tenant": values["tenant"] or None}, noun)
