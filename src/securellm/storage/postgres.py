"""The control plane on PostgreSQL: bounded, self-healing connections as a role that row-level security binds."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, create_engine, exc, make_url
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg
from sqlalchemy.pool import QueuePool

from securellm.core.errors import GatewayError
from securellm.storage.confining import confined
from securellm.storage.engines import CONNECTIONS, PATIENCE, Turns, guard
from securellm.storage.errors import CommitUncertain
from securellm.storage.scope import Scope
from securellm.storage.walls import PRESENT_TENANT

CHANNEL = "control_changes"
"""Where every commit of a write is announced; the payload is its version."""

_CONNECT = 2
"""Seconds for each address of the server: the least that libpq takes."""
_GRACE = 1.0
"""Seconds by which the client waits longer than the server lets a statement run."""
_LOCK = 2.0
_SILENCE = 10.0
"""Seconds after which the server gives up a transaction whose process says nothing, and with it the turn to write."""
_AGAIN = 1.0

_WORDS: dict[str, Any] = {
    "application_name": "securellm",
    "connect_timeout": _CONNECT,
    # A standby may be behind, and would confirm what has been revoked; of several hosts the one that is none is asked.
    "target_session_attrs": "primary",
    # A listener says nothing, so only these notice that the other end has vanished.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

BEGIN = (
    "SELECT set_config('app.tenant', %s, true), "
    f"set_config('statement_timeout', '{PATIENCE:.0f}s', true), "
    f"set_config('lock_timeout', '{_LOCK:.0f}s', true), "
    f"set_config('idle_in_transaction_session_timeout', '{_SILENCE:.0f}s', true)"
)
"""The first statement of each transaction, told its tenant or `*`: the scope, and bounds on all that can wait."""


class PostgresDatabase:
    """A database of a server. It may die and come back; what is asked meanwhile fails within seconds."""

    def __init__(self, url: str, *, password: Callable[[], str] | None) -> None:
        """`password` is asked for each new connection, so that a rotated one is found. Nothing is connected yet."""
        self._reach = Reach(url, password=password)
        self.name = self._reach.name
        self.mark = "%s"
        self._turns = Turns()
        self._wide = create_engine(
            "postgresql+psycopg://",
            creator=self._reach.connect,
            poolclass=QueuePool,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=PATIENCE,
            pool_pre_ping=True,
        )
        self._narrow = create_engine("postgresql+psycopg://", pool=self._wide.pool)
        self._narrow.dialect.statement_compiler = confined(PGCompiler_psycopg, present_tenant=PRESENT_TENANT)
        for engine in (self._wide, self._narrow):
            guard(engine)
            dialect: Any = engine.dialect
            dialect.do_ping = _answers

    @contextmanager
    def transaction(self, scope: Scope, *, writing: bool) -> Iterator[Connection]:
        engine = self._wide if scope.tenant is None else self._narrow
        with self._turns.taken(writing=writing), engine.connect() as connection:
            if not writing:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            connection.exec_driver_sql(BEGIN, ("*" if scope.tenant is None else scope.tenant,))
            yield connection
            try:
                connection.commit()
            except exc.DBAPIError as error:
                if error.connection_invalidated and writing:
                    raise CommitUncertain(self.name) from error
                raise

    def announce(self, connection: Connection, version: int) -> None:
        connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, str(version)))

    def listen(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """As `Database.listen`; after a cut it listens again as soon as the server is back."""
        return Listener(self._reach, callback).stop

    def close(self) -> None:
        self._wide.dispose()


class Reach:
    """How one role reaches one database."""

    def __init__(self, url: str, *, password: Callable[[], str] | None) -> None:
        parsed = make_url(url)
        self.name = parsed.set(query={}, password=None).render_as_string()
        self._words = _words(parsed)
        self._password = password

    def connect(self, **options: Any) -> "psycopg.Connection[Any]":
        """A new connection, within seconds or not at all."""
        secret: dict[str, Any] = {} if self._password is None else {"password": self._password()}
        return _Bounded.connect(prepare_threshold=None, **self._words, **secret, **options)


def _words(url: URL) -> dict[str, Any]:
    words: dict[str, Any] = {name: value for name, value in url.query.items() if isinstance(value, str)}
    words |= {name: ",".join(value) for name, value in url.query.items() if not isinstance(value, str)}
    named = {"host": url.host, "port": url.port, "user": url.username, "dbname": url.database}
    words |= {name: value for name, value in named.items() if value}
    return _WORDS | words


class _Bounded(psycopg.Connection[Any]):
    """Waits for a server that has fallen silent little longer than that one may take for a statement."""

    patience = PATIENCE + _GRACE

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.patience)
        except psycopg.OperationalError:
            # Still at work: it was the wait that ended, and what the connection will say next is nobody's answer.
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.close()
            raise


def _answers(connection: Any) -> bool:
    """Whether a connection that was at rest is still one. Raises as the driver does."""
    connection.patience = _CONNECT
    try:
        connection.autocommit = True
        connection.execute("SELECT 1")
        connection.autocommit = False
    finally:
        connection.patience = _Bounded.patience
    return True


class Listener:
    """A thread that hears of commits. A hint only: what is announced while it is not connected is never heard."""

    def __init__(self, reach: Reach, callback: Callable[[int], None]) -> None:
        self._reach = reach
        self._callback = callback
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control-changes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; it is gone within seconds."""
        self._ending.set()
        self._thread.join(PATIENCE + _GRACE)

    def _run(self) -> None:
        while not self._ending.is_set():
            # Whatever ended the connection, the follower's own look at the version is what counts.
            with suppress(psycopg.Error, GatewayError), self._reach.connect(autocommit=True) as connection:
                connection.execute(f"LISTEN {CHANNEL}")
                while not self._ending.is_set():
                    for notice in connection.notifies(timeout=_AGAIN):
                        if notice.payload.isdecimal():
                            self._callback(int(notice.payload))
            self._ending.wait(_AGAIN)
