"""What is wired to what: the only place that names every concrete part."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import msgspec

from securellm import __version__
from securellm.audit import SCHEMA as AUDIT_SCHEMA
from securellm.audit import AuditLog, Boot, ConfigChange, KeyChange, Observer, Outcome, OutcomeStatus
from securellm.bootstrap.compiling import compile_snapshot, declared_keys
from securellm.bootstrap.config import Loaded, config_digest, open_config
from securellm.cache import SCHEMA as IDEMPOTENCY_SCHEMA
from securellm.cache import Cache, Idempotency, IdempotencyReplay, idempotency_secret
from securellm.core.clock import Clock, SystemClock
from securellm.core.errors import Code, GatewayError
from securellm.core.ids import Ids
from securellm.core.money import Nanos
from securellm.core.randomness import Randomness, SystemRandomness
from securellm.custody import SCHEMA as CUSTODY_SCHEMA
from securellm.custody import Custody, CustodyReplay
from securellm.finops import SCHEMA as LEDGER_SCHEMA
from securellm.finops import Finops, LedgerReplay, LedgerState, load, period_of, shipped
from securellm.gateway.capabilities import Gates
from securellm.gateway.journal import Journal
from securellm.gateway.snapshot import Snapshot, Snapshots
from securellm.guard import Guard
from securellm.identity import SCHEMA as IDENTITY_SCHEMA
from securellm.identity import Identities, KeyConflict, KeyRegistry, KeyStore, VirtualKey
from securellm.ingress.app import Health, Ingress, IngressLimits
from securellm.limits import Limits
from securellm.policy import Policy
from securellm.providers import KINDS, MockSender, Provider, Providers, Sender
from securellm.routing import Router
from securellm.secrets import KeyFolder, SecretValue
from securellm.settings import ConfigError, FilePath
from securellm.storage import Connection, ControlStore, DataDir, GroupCommitWriter
from securellm.telemetry.logs import configure_logs, logger
from securellm.telemetry.metrics import Metrics
from securellm.transport import Pool, Timeouts, TlsOptions, parse_base_url

JOURNAL_SCHEMA = (*AUDIT_SCHEMA, *LEDGER_SCHEMA, *CUSTODY_SCHEMA, *IDEMPOTENCY_SCHEMA)
CONTROL_SCHEMA = IDENTITY_SCHEMA
WRITER_ID = "gateway"

_POLL = 1.0
"""Seconds between looks at the control database: half of what a revocation may take."""

_log = logger("bootstrap")


def journal_observers() -> tuple[Observer, ...]:
    """For one `audit verify`: what derives each table of the journal from its records again."""
    return (LedgerReplay(), CustodyReplay(), IdempotencyReplay())


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's own secrets."""

    pepper: bytes
    admin_token: SecretValue
    audit_seed: bytes


def open_keys(loaded: Loaded, data: DataDir, randomness: Randomness) -> Keys:
    """By reference where the file says so, else from the key folder, made on the first start only.

    Raises KeyRefused when a key that stored data depends on is missing.
    """
    folder = KeyFolder(data.keys, randomness)
    security = loaded.config.security
    resolve = loaded.resolver.resolve
    pepper = (
        resolve(security.pepper) if security.pepper is not None else folder.pepper(create=not data.control.exists())
    )
    seed = (
        resolve(security.audit_key)
        if security.audit_key is not None
        else folder.audit_key(create=not data.audit.exists())
    )
    token = resolve(security.admin_token) if security.admin_token is not None else folder.admin_token(create=True)
    return Keys(pepper=bytes.fromhex(pepper.reveal()), admin_token=token, audit_seed=bytes.fromhex(seed.reveal()))


def stored_keys(data: DataDir, randomness: Randomness) -> Keys:
    """The keys of the key folder, none of them made: for commands that are told only where the data is."""
    folder = KeyFolder(data.keys, randomness)
    return Keys(
        pepper=bytes.fromhex(folder.pepper(create=False).reveal()),
        admin_token=folder.admin_token(create=False),
        audit_seed=bytes.fromhex(folder.audit_key(create=False).reveal()),
    )


class Application:
    """One gateway process: its data directory, its gates, its two faces and the chores between them.

    Opening blocks and refuses whatever cannot be trusted; nothing is served before it has returned.
    """

    PARTS = ("journal", "snapshot", "routes")
    """What readiness depends on."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        clock: Clock,
        randomness: Randomness,
        senders: Callable[[Loaded], dict[str, Sender]] | None = None,
    ) -> None:
        self._stack = ExitStack()
        self._senders = senders or build_senders
        self._carriers: list[Sender] = []
        self.loaded = loaded
        self.clock = clock
        self.ids = Ids(clock, randomness)
        self.metrics = Metrics()
        self.data = DataDir(loaded.data_dir)
        self._stack.enter_context(self.data.lock())
        try:
            self._open(loaded, clock, randomness)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, loaded: Loaded, clock: Clock, randomness: Randomness) -> None:
        config = loaded.config
        self.keys = open_keys(loaded, self.data, randomness)
        control = ControlStore.open(self.data.control, CONTROL_SCHEMA)
        self._stack.callback(control.close)
        self._store = KeyStore(control, pepper=self.keys.pepper, clock=clock, randomness=randomness)
        self.registry = KeyRegistry(self._store, declared=declared_keys(loaded, pepper=self.keys.pepper))
        self._book = shipped()
        self._control_version = self.registry.version()
        snapshot = self._compile(loaded, self.registry)
        writer = GroupCommitWriter.open(self.data.audit, JOURNAL_SCHEMA)
        self._stack.callback(writer.close)
        log = AuditLog.open(writer, writer_id=WRITER_ID, seed=self.keys.audit_seed, clock=clock, randomness=randomness)
        self.vkey = log.vkey
        self._writer, self._log = writer, log
        boot = Boot(version=__version__, config_digest=config_digest(config), snapshot=snapshot.version)
        writer.perform(log.appending(boot))
        self.finops = Finops(clock=clock, reservation_wait=config.finops.reservation_wait)
        journal = Journal(writer, log, clock=clock, metrics=self.metrics, seconds=config.server.gate_timeout)
        self._take_over(journal, writer)
        self.gates = Gates(
            snapshots=Snapshots(snapshot, clock=clock, fence=config.server.stale_policy_fence),
            identities=Identities(self.keys.pepper, clock),
            policy=Policy(),
            limits=Limits(clock),
            guard=Guard(),
            cache=_cache(loaded, clock),
            idempotency=self._idempotency(loaded, clock, writer),
            custody=Custody(self.data.audit),
            router=Router(clock, randomness),
            finops=self.finops,
            providers=self._providers(loaded),
            journal=journal,
            clock=clock,
            metrics=self.metrics,
            gate_seconds=config.server.gate_timeout,
            reservation_seconds=config.finops.reservation_wait,
        )
        self.ingress = Ingress(
            self.gates,
            limits=IngressLimits(
                max_body=config.server.max_body,
                max_depth=config.server.max_depth,
                request_timeout=config.server.request_timeout,
                heartbeat=config.server.heartbeat,
            ),
            clock=clock,
            ids=self.ids,
            metrics=self.metrics,
            health=Health(ready=self.ready, metrics=lambda: self.metrics.render(with_tenants=False)),
        )

    def ready(self) -> bool:
        """Whether a request could be served: the journal takes new work and the snapshot is fresh."""
        return not self.failing()

    def failing(self) -> tuple[str, ...]:
        """The parts that keep the gateway from serving; for the authenticated only."""
        gates = self.gates
        return tuple(
            name
            for name, well in (
                ("journal", gates.journal.accepting),
                ("snapshot", gates.snapshots.fresh),
                ("routes", bool(gates.snapshots.models)),
            )
            if not well
        )

    async def follow(self) -> None:
        """Keep the snapshot confirmed and the gauges true until cancelled. A failed look is tried again."""
        while True:
            try:
                await self.refresh()
                await self.gates.journal.flush_unauthenticated()
            except GatewayError as error:
                _log.error("follow_failed", code=error.code.value, reason=error.reason)
            except Exception as error:  # noqa: BLE001 - one of the three named places: the root of a background task
                _log.error("follow_failed", error=type(error).__name__)
            self.gates.idempotency.sweep()
            self._measure()
            await asyncio.sleep(_POLL)

    async def refresh(self) -> None:
        """Look at the control database; swap the snapshot when it says something new, else confirm it."""
        version = await asyncio.to_thread(self.registry.version)
        if version == self._control_version:
            self.gates.snapshots.confirm()
            return
        snapshot = await asyncio.to_thread(self._compile, self.loaded, self.registry)
        self._control_version = version
        self.gates.snapshots.replace(snapshot)

    async def reload(self) -> None:
        """SIGHUP: read the file again. A wrong file changes nothing.

        All takes effect but [server] and [storage], and [security]: keys that data depends on are read at start.
        """
        try:
            loaded = await asyncio.to_thread(open_config, self.loaded.path)
        except ConfigError as error:
            for line in error.lines():
                _log.error("reload_refused", problem=line)
            return
        registry = KeyRegistry(self._store, declared=declared_keys(loaded, pepper=self.keys.pepper))
        try:
            snapshot = self._compile(loaded, registry)
        except KeyConflict as error:
            _log.error("reload_refused", problem=error.reason)
            return
        await self.gates.journal.record(
            ConfigChange(actor="signal", config_digest=config_digest(loaded.config), snapshot=snapshot.version)
        )
        configure_logs(level=loaded.config.log.level, form=loaded.config.log.format)
        self.loaded, self.registry = loaded, registry
        self.finops.reservation_wait = loaded.config.finops.reservation_wait
        self.gates.idempotency.ttl = loaded.config.cache.idempotency_ttl
        self.gates.idempotency.max_bytes = loaded.config.cache.idempotency_max_bytes
        # Requests that have begun keep the providers and the cache they began with.
        self.gates = msgspec.structs.replace(
            self.gates,
            providers=self._providers(loaded),
            cache=_cache(loaded, self.clock),
            reservation_seconds=loaded.config.finops.reservation_wait,
        )
        self.gates.snapshots.replace(snapshot)
        self.ingress.gates = self.gates
        _log.info("reloaded", snapshot=snapshot.version)

    def note_key(self, action: Literal["create", "revoke"], key: VirtualKey, *, actor: str) -> None:
        """The KEY record of a change to virtual keys, durable. Blocking: for commands, before serving."""
        change = KeyChange(action=action, key_id=key.id, tenant=key.tenant, actor=actor)
        self._writer.perform(self._log.appending(change))

    async def drain(self) -> None:
        """After the listeners have closed: every story that has begun is recorded, every connection is closed."""
        await self.gates.journal.drain()
        for sender in self._carriers:
            if isinstance(sender, Pool):
                await sender.aclose()

    def close(self) -> None:
        """Fold the write-ahead logs away and give the data directory up. Blocking."""
        self._stack.close()

    def _compile(self, loaded: Loaded, registry: KeyRegistry) -> Snapshot:
        return compile_snapshot(loaded.config, registry.table(), self._book, now_us=self.clock.now_us())

    def _providers(self, loaded: Loaded) -> Providers:
        senders = self._senders(loaded)
        self._carriers += senders.values()
        providers = []
        for row in loaded.config.providers:
            kind = KINDS[row.kind]
            base = row.base_url or kind.default_base_url or "http://127.0.0.1"
            timeouts = row.timeouts
            providers.append(
                Provider(
                    id=row.id,
                    kind=kind,
                    base=parse_base_url(base),
                    credential=None if row.credential is None else loaded.resolver.resolve(row.credential),
                    timeouts=Timeouts(
                        connect=timeouts.connect,
                        first_byte=timeouts.first_byte,
                        idle=timeouts.idle,
                        total=timeouts.total,
                    ),
                    sender=senders[row.id],
                )
            )
        return Providers(providers, clock=self.clock)

    def _idempotency(self, loaded: Loaded, clock: Clock, writer: GroupCommitWriter) -> Idempotency:
        keys = Idempotency(
            self.data.audit,
            secret=idempotency_secret(self.keys.pepper),
            ttl=loaded.config.cache.idempotency_ttl,
            max_bytes=loaded.config.cache.idempotency_max_bytes,
            clock=clock,
        )
        writer.perform(keys.restore)
        return keys

    def _take_over(self, journal: Journal, writer: GroupCommitWriter) -> None:
        """End every request that a former process left open: what it held is presumed spent until reconciled."""
        states: list[LedgerState] = []

        def read(connection: Connection) -> None:
            states.append(load(connection))

        writer.perform(read)
        endings = []
        for reservation in self.finops.restore(states[0]):
            settlement = self.finops.settle(reservation, None, presumed=True)
            record = Outcome(
                request_id=reservation.request_id,
                status=OutcomeStatus.UNKNOWN,
                code=Code.UNKNOWN_OUTCOME,
                reason="the process ended before the outcome was known",
                attempts=reservation.attempt,
                settled=settlement.settled,
                presumed=settlement.presumed,
                cost_known=settlement.cost_known,
            )
            endings.append((reservation, settlement, record))
        journal.unknown_outcomes(endings)
        for _, settlement, _ in endings:
            self.finops.apply(settlement)
        if endings:
            _log.warning("unknown_outcomes", count=len(endings))

    def _measure(self) -> None:
        metrics, gates = self.metrics, self.gates
        metrics.snapshot_age.set(gates.snapshots.age)
        metrics.audit_healthy.set(1 if gates.journal.healthy else 0)
        period = period_of(self.clock.now_us())
        state = self.finops.snapshot()
        held: dict[tuple[str, str], int] = {}
        for hold in state.holds:
            held[hold.tenant, hold.currency] = held.get((hold.tenant, hold.currency), 0) + hold.amount
        for balance in state.balances:
            if balance.period != period:
                continue
            for name, amount in (
                ("settled", balance.settled),
                ("presumed", balance.presumed),
                ("held", held.get((balance.tenant, balance.currency), 0)),
            ):
                metrics.budget.labels(balance.tenant, balance.currency, name).set(Nanos(amount))


def build_senders(loaded: Loaded) -> dict[str, Sender]:
    """What carries requests to each provider: a connection pool, or the mock inside the process."""
    senders: dict[str, Sender] = {}
    for row in loaded.config.providers:
        kind = KINDS[row.kind]
        if kind.demo_only:
            senders[row.id] = MockSender()
            continue
        target = parse_base_url(row.base_url or kind.default_base_url or "")
        tls = None
        if target.scheme == "https":
            tls = TlsOptions(
                ca_file=_path(loaded, row.ca_file),
                client_cert=_path(loaded, row.client_cert),
                client_key=_path(loaded, row.client_key),
            )
        proxy = None if row.proxy is None else parse_base_url(row.proxy)
        senders[row.id] = Pool(target, tls=tls, proxy=proxy)
    return senders


def _path(loaded: Loaded, name: FilePath | None) -> Path | None:
    return None if name is None else loaded.locate(name)


def _cache(loaded: Loaded, clock: Clock) -> Cache:
    settings = loaded.config.cache
    return Cache(
        max_entries=settings.max_entries,
        max_bytes=settings.max_bytes,
        ttl=settings.ttl,
        clock=clock,
    )


def open_application(loaded: Loaded) -> Application:
    """The gateway as it runs in earnest."""
    return Application(loaded, clock=SystemClock(), randomness=SystemRandomness())
