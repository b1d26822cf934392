"""The column types of the control plane: the same in SQLite's STRICT tables and in PostgreSQL."""

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Boolean, Dialect, Integer, LargeBinary, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from securellm.core.errors import Code, Refusal


class Flag(TypeDecorator[bool]):
    """True or False."""

    impl = Boolean
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else Boolean())

    def process_bind_param(self, value: bool | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name != "sqlite" else int(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> bool | None:  # noqa: ARG002 - the base class asks
        return None if value is None else bool(value)


class Json(TypeDecorator[Any]):
    """Whatever JSON can say, bound as any object msgspec encodes and read back as plain values.

    JSONB on PostgreSQL, text on SQLite. The order of an object's members is not kept.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Text())
        # Imported here, because a start on a file should not pay for the other databases.
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        try:
            encoded = msgspec.json.encode(value)
        except UnicodeEncodeError:
            raise half_a_character() from None
        if b"\\u0000" in encoded:
            refuse_nul(msgspec.json.decode(encoded))
        return encoded.decode() if dialect.name == "sqlite" else msgspec.json.decode(encoded)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return msgspec.json.decode(value) if value is not None and dialect.name == "sqlite" else value


def half_a_character() -> Refusal:
    """The refusal of a text with a lone surrogate, which is in no encoding."""
    return Refusal(Code.INVALID_REQUEST, "a text holds half a character, which cannot be stored")


def refuse_nul(value: object) -> None:
    """Raise `Refusal` (INVALID_REQUEST) where a text holds NUL, which PostgreSQL cannot store."""
    match value:
        case str() if "\0" in value:
            raise Refusal(Code.INVALID_REQUEST, "a text holds a NUL character, which cannot be stored")
        case dict():
            for name, item in value.items():
                refuse_nul(name)
                refuse_nul(item)
        case list():
            for item in value:
                refuse_nul(item)


TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""Text, ordered by its bytes whatever the database's language."""

INTEGER = BigInteger().with_variant(Integer(), "sqlite")
"""A signed 64-bit whole number."""

BYTES = LargeBinary()
FLAG = Flag()
JSON = Json()
