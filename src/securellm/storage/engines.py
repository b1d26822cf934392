"""How a database is reached: its connections, how a transaction begins, and what its errors mean."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.pool import QueuePool

from securellm.core.errors import Code, Fault, Refusal
from securellm.storage.columns import half_a_character, refuse_nul
from securellm.storage.confining import confined
from securellm.storage.errors import OutOfScope, StorageConflict
from securellm.storage.schema import PROFILE, connect
from securellm.storage.scope import Scope

CONNECTIONS = 5
"""How many a process keeps: the control plane is read by one follower and a few people."""

PATIENCE = 5.0
"""Seconds to wait for a connection, a lock or a statement."""

_TAKEN = (
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
)

_WALL = "42501"
"""What PostgreSQL says where row-level security or a missing right forbids a statement."""

_INT64 = 1 << 63


class Database(Protocol):
    """Where the control plane lives: a SQLite file or a PostgreSQL database."""

    name: str
    """What people call it: never with a credential."""
    mark: str
    """What stands for a parameter in SQL text."""

    def transaction(self, scope: Scope, *, writing: bool) -> AbstractContextManager[Connection]:
        """A transaction, committed at the end of the block and undone where the block raises.

        Errors come through as SQLAlchemy raises them; `translated` says what they mean.
        """

    def announce(self, connection: Connection, version: int) -> None:
        """Hint to other processes that `version` exists once the transaction is committed."""

    def listen(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call `callback` with versions that others announce, until the returned callable is called."""

    def close(self) -> None:
        """Let every connection go."""


class Turns:
    """Lets one thread of this process write at a time, so that writers who wait do not hold every connection."""

    def __init__(self) -> None:
        self._writer = threading.Lock()

    @contextmanager
    def taken(self, *, writing: bool) -> Iterator[None]:
        """The turn, for the length of the block. Raises `Fault` (STORAGE_UNAVAILABLE) when it does not come."""
        if not writing:
            yield
            return
        if not self._writer.acquire(timeout=PATIENCE):
            raise Fault(Code.STORAGE_UNAVAILABLE, "other changes hold the control database")
        try:
            yield
        finally:
            self._writer.release()


class SqliteDatabase:
    """A file. Reads go on beside a write; writes wait for one another."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.mark = "?"
        self._path = path
        self._turns = Turns()
        self._wide = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=PATIENCE,
        )
        self._narrow = create_engine("sqlite://", pool=self._wide.pool)
        self._narrow.dialect.statement_compiler = confined(SQLiteCompiler, present_tenant="present_tenant()")
        for engine in (self._wide, self._narrow):
            guard(engine)

    @contextmanager
    def transaction(self, scope: Scope, *, writing: bool) -> Iterator[Connection]:
        engine = self._wide if scope.tenant is None else self._narrow
        with self._turns.taken(writing=writing), engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
            connection.exec_driver_sql("SELECT enter(?)", (scope.tenant,))
            yield connection
            connection.commit()

    def announce(self, connection: Connection, version: int) -> None:
        """Nobody listens to a file."""

    def listen(self, _callback: Callable[[int], None]) -> Callable[[], None]:
        """A file announces nothing: its one process tells itself."""
        return lambda: None

    def close(self) -> None:
        """Fold the write-ahead log into the file and let it go."""
        self._wide.dispose()

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self._path)
        try:
            for pragma in PROFILE:
                connection.execute(pragma)
            scope: list[str | None] = [None]
            connection.create_function("present_tenant", 0, lambda: scope[0])
            connection.create_function("enter", 1, lambda tenant: scope.__setitem__(0, tenant))
        except BaseException:
            connection.close()
            raise
        return connection


def guard(engine: Engine) -> None:
    """Refuse a value that one of the databases cannot hold before either sees it, so that they answer alike."""

    @event.listens_for(engine, "before_cursor_execute")
    def check(_c: Connection, _cursor: Any, _sql: str, parameters: Any, _context: Any, _many: bool) -> None:
        rows = parameters if isinstance(parameters, list) else [parameters]
        for row in rows:
            for value in row.values() if isinstance(row, dict) else row:
                check_value(value)


def check_value(value: object) -> None:
    """Raise `Refusal` (INVALID_REQUEST) for a text or a number that not every database can hold."""
    if isinstance(value, str):
        refuse_nul(value)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise half_a_character() from None
    elif isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise Refusal(Code.INVALID_REQUEST, "a number is outside the range of a 64-bit integer")


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Errors of a database inside the block become `StorageConflict`, `OutOfScope` or `Fault` (STORAGE_UNAVAILABLE)."""
    try:
        yield
    except exc.IntegrityError as error:
        if _is_taken(error.orig):
            raise StorageConflict(
                "the change contradicts what is stored", remedy="Use another name, or change what exists."
            ) from error
        raise Fault(Code.STORAGE_UNAVAILABLE, f"the control database {name} refused a change") from error
    except exc.ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) == _WALL:
            raise OutOfScope("row-level security forbids a change") from error
        raise Fault(Code.STORAGE_UNAVAILABLE, f"the control database {name} failed") from error
    except (exc.DBAPIError, exc.TimeoutError) as error:
        raise Fault(Code.STORAGE_UNAVAILABLE, f"the control database {name} failed") from error
    except exc.StatementError as error:
        # What a column's type refuses comes wrapped.
        if isinstance(error.orig, Refusal):
            raise error.orig from None
        raise


def _is_taken(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorcode", None) in _TAKEN or getattr(error, "sqlstate", None) in ("23505", "23503")
