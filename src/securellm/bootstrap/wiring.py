"""What is wired to what: the only place that names every concrete part."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal

import msgspec

from securellm import __version__
from securellm.audit import AuditLog, Boot, ConfigChange, KeyChange, Record
from securellm.bootstrap.bundles import FileBundles
from securellm.bootstrap.carriers import Carriers, sender_for
from securellm.bootstrap.compiling import declared_keys
from securellm.bootstrap.config import Loaded, config_digest, open_config
from securellm.bootstrap.effective import Effective
from securellm.bootstrap.explaining import at_next_start
from securellm.bootstrap.following import Follower
from securellm.bootstrap.gauges import measure
from securellm.bootstrap.journaling import JOURNAL_SCHEMA, WRITER_ID
from securellm.bootstrap.keys import open_keys
from securellm.bootstrap.personal import PersonalControl
from securellm.bootstrap.places import open_control
from securellm.bootstrap.provenance import StartupCode
from securellm.bootstrap.reaching import LateStore
from securellm.bootstrap.recorded import Recorded
from securellm.bootstrap.shipping import open_shipping
from securellm.bootstrap.standby import Standby
from securellm.bootstrap.unfinished import take_over
from securellm.cache import Cache, Idempotency, idempotency_secret
from securellm.core.clock import Clock, SystemClock
from securellm.core.errors import GatewayError
from securellm.core.hosts import Hosts
from securellm.core.ids import Ids
from securellm.core.randomness import Randomness, SystemRandomness
from securellm.custody import Custody
from securellm.finops import Finops, shipped
from securellm.gateway.capabilities import Gates
from securellm.gateway.journal import Journal
from securellm.gateway.running import Running
from securellm.gateway.snapshot import Snapshot, Snapshots
from securellm.guard import Guard
from securellm.identity import (
    HttpOutbound,
    Identities,
    Issuers,
    KeyConflict,
    Keyring,
    VirtualKey,
    bind_pepper,
)
from securellm.identity.rules import fingerprint_of
from securellm.identity.settings import IssuerSettings
from securellm.ingress.app import Health, Ingress, IngressLimits
from securellm.limits import Limits
from securellm.policy import Policy
from securellm.preferences import PreferenceBook
from securellm.routing import Router
from securellm.secrets import CredentialKeeper
from securellm.settings import ConfigError
from securellm.storage import ControlStore, DataDir, GroupCommitWriter, is_postgres
from securellm.telemetry.logs import configure_logs, logger
from securellm.telemetry.metrics import Metrics

_POLL = 1.0
"""Seconds between looks at the control database: half of what a revocation may take."""
_MOST_STARTUP_CODE = 50
"""Files that one record names."""

_log = logger("bootstrap")


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
        startup_code: tuple[StartupCode, ...] = (),
    ) -> None:
        """`startup_code` is what ran before us and nobody knows, for the record."""
        self._stack = ExitStack()
        self.loaded = loaded
        self._startup_code = startup_code
        self._started_with = loaded.config
        self.clock = clock
        self._randomness = randomness
        self.ids = Ids(clock, randomness)
        self.metrics = Metrics()
        self.metrics.startup_code_foreign.set(len(startup_code))
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
        self.credentials = CredentialKeeper(loaded.resolver, settings=config.secrets, clock=clock)
        self._stack.callback(self.credentials.close)
        self._carriers = Carriers(sender_for, hold=self.credentials.hold, clock=clock)
        self.book = shipped()
        self.bundles = FileBundles()
        self.follower = Follower(
            loaded,
            declared=self._declared,
            open_store=self._open_store,
            bundles=self.bundles,
            book=self.book,
            clock=clock,
            standby=self._standby(loaded, clock),
        )
        self._stack.callback(self.follower.close)
        snapshot, confirmed = self.follower.begin()
        self.finops = Finops(clock=clock, reservation_wait=config.finops.reservation_wait)
        journal = self._open_journal(loaded, snapshot)
        age = clock.monotonic() - confirmed
        snapshots = Snapshots(snapshot, clock=clock, fence=config.server.stale_policy_fence, age=age)
        running = Running(snapshots, clock)
        self.follower.attach(snapshots, running, self._prepare)
        self.issuers = Issuers(config.identity.issuers, outbound=self._outbound, clock=clock, randomness=randomness)
        self.gates = self._gates(loaded, snapshots, running, journal)
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
            hosts=Hosts.of(config.server.hosts) if config.server.hosts else None,
        )

    def _open_journal(self, loaded: Loaded, snapshot: Snapshot) -> Journal:
        """Record this start, and end what a former process left open."""
        writer = GroupCommitWriter.open(self.data.audit, JOURNAL_SCHEMA)
        self._stack.callback(writer.close)
        log = AuditLog.open(
            writer, writer_id=WRITER_ID, seed=self.keys.audit_seed, clock=self.clock, randomness=self._randomness
        )
        self.vkey = log.vkey
        self._writer, self._log = writer, log
        self.shipping = open_shipping(
            loaded, self.data.audit, clock=self.clock, randomness=self._randomness, metrics=self.metrics
        )
        if self.shipping is not None:
            self._stack.callback(self.shipping.close)
        boot = Boot(
            version=__version__,
            config_digest=config_digest(loaded.config),
            snapshot=snapshot.version,
            startup_code=tuple(map(str, self._startup_code[:_MOST_STARTUP_CODE])),
        )
        writer.perform(log.appending(boot))
        seconds = loaded.config.server.gate_timeout
        journal = Journal(writer, log, clock=self.clock, metrics=self.metrics, seconds=seconds)
        if left_open := take_over(writer, journal, self.finops):
            _log.warning("unknown_outcomes", count=left_open)
        return journal

    def _gates(self, loaded: Loaded, snapshots: Snapshots, running: Running, journal: Journal) -> Gates:
        config, clock = loaded.config, self.clock
        self.recorded = Recorded(lambda: self.control, record=lambda records: self.record_now(*records))
        personal = PersonalControl(self.recorded, clock=clock)
        return Gates(
            snapshots=snapshots,
            running=running,
            identities=Identities(self.keys.pepper, clock, issuers=self.issuers),
            policy=Policy(clock, metrics=self.metrics),
            limits=Limits(clock),
            guard=Guard(),
            cache=_cache(loaded, clock),
            idempotency=self._idempotency(loaded),
            custody=Custody(self.data.audit),
            router=Router(clock, self._randomness),
            finops=self.finops,
            providers=self._carriers.providers(loaded, self.effective.config.providers),
            journal=journal,
            preferences=PreferenceBook(personal, clock=clock, ids=self.ids),
            clock=clock,
            metrics=self.metrics,
            gate_seconds=config.server.gate_timeout,
            reservation_seconds=config.finops.reservation_wait,
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

    @property
    def effective(self) -> Effective:
        """What is in force: the file and what is stored."""
        return self.follower.effective

    @property
    def control(self) -> ControlStore:
        """The control store. While it has not been reached since the start, all that is asked of it fails."""
        return self.follower.store or LateStore(lambda: self.follower.store)

    @property
    def keyring(self) -> Keyring:
        """The virtual keys of `control`, and those that the file in force declares."""
        return Keyring(self.keys.pepper, self.clock, self._randomness, declared=self.follower.declared)

    async def follow(self) -> None:
        """Keep the snapshot confirmed, requests within their rights and the gauges true, until cancelled."""
        looking = asyncio.get_running_loop().create_task(self._look())
        try:
            while True:
                self.gates.running.watch()
                try:
                    await self.gates.journal.flush_unauthenticated()
                    await self._carriers.sweep()
                except Exception as error:  # noqa: BLE001 - one of the three named places: the root of a background task
                    _log.error("follow_failed", error=type(error).__name__)
                self.gates.idempotency.sweep()
                measure(self.metrics, self.gates)
                await asyncio.sleep(self._often)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    @property
    def _often(self) -> float:
        """Seconds between two looks: well within every fence."""
        return min(_POLL, self.gates.snapshots.tightest / 4)

    async def _look(self) -> None:
        """Look at the control store again and again. A failed look is tried again, and told of once."""
        told = ""
        while True:
            problem = ""
            try:
                await self.refresh()
            except GatewayError as error:
                problem = f"{error.code.value}: {error.reason}"
            except ConfigError as error:
                problem = "; ".join(error.lines())
            except Exception as error:  # noqa: BLE001 - one of the three named places: the root of a background task
                problem = type(error).__name__
            if problem != told:
                if problem:
                    _log.error("control_store_not_followed", problem=problem)
                else:
                    _log.warning("control_store_followed_again")
                told = problem
            await self.follower.hinted(seconds=self._often)

    async def refresh(self) -> None:
        """Look at the control store now; what it says is in force when this returns. Raises as `Follower.refresh`."""
        await self.follower.refresh()

    async def keep_credentials(self) -> None:
        """Read every provider credential again, each when it is due, until cancelled."""
        while True:
            try:
                await self.credentials.refresh()
            except Exception as error:  # noqa: BLE001 - one of the three named places: the root of a background task
                _log.error("credentials_not_refreshed", error=type(error).__name__)
            self.metrics.credential_age.set(self.credentials.oldest)
            await asyncio.sleep(_POLL)

    async def ship(self) -> None:
        """Ship the journal where a PostgreSQL is shared, until cancelled."""
        if self.shipping is not None:
            await self.shipping.run()

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

        async def record(snapshot: Snapshot) -> None:
            await self.gates.journal.record(
                ConfigChange(actor="signal", config_digest=config_digest(loaded.config), snapshot=snapshot.version)
            )

        try:
            await self.follower.reload(loaded, record)
        except ConfigError as error:
            for line in error.lines():
                _log.error("reload_refused", problem=line)
            return
        except KeyConflict as error:
            _log.error("reload_refused", problem=error.reason)
            return
        configure_logs(level=loaded.config.log.level, form=loaded.config.log.format)
        self.finops.reservation_wait = loaded.config.finops.reservation_wait
        self.gates.idempotency.ttl = loaded.config.cache.idempotency_ttl
        self.gates.idempotency.max_bytes = loaded.config.cache.idempotency_max_bytes
        await self.credentials.refresh()
        _log.info("reloaded", snapshot=self.gates.snapshots.current.version)
        if waiting := at_next_start(self._started_with, loaded.config):
            _log.warning("reloaded_but_not_all", at_the_next_start=waiting)

    def _prepare(self, effective: Effective) -> Callable[[], None]:
        """What follows from another configuration, made ready in a thread; called on the loop, it is in force."""
        loaded = effective.loaded
        reloaded = loaded is not self.loaded
        if reloaded:
            self.credentials.follow(loaded.resolver, settings=loaded.config.secrets)
        providers = self._carriers.providers(loaded, effective.config.providers, renew=reloaded)

        def put_in_force() -> None:
            former, now = self.effective.config, effective.config
            moved = (former.providers, former.models) != (now.providers, now.models)
            self.loaded = loaded
            if reloaded:
                self.issuers.follow(loaded.config.identity.issuers)
            # Requests that have begun keep the providers and the cache they began with.
            self.gates = msgspec.structs.replace(
                self.gates,
                providers=providers,
                # What another provider answered, or the same one elsewhere, is no answer of today's.
                cache=_cache(loaded, self.clock) if reloaded or moved else self.gates.cache,
                reservation_seconds=loaded.config.finops.reservation_wait,
            )
            self.ingress.gates = self.gates

        return put_in_force

    def record_now(self, *records: Record) -> None:
        """Make records durable in one step. Blocking: for threads and commands. Raises Fault(AUDIT_UNAVAILABLE)."""
        self._writer.perform(*(self._log.appending(record) for record in records))

    def _outbound(self, settings: IssuerSettings) -> HttpOutbound:
        return HttpOutbound(ca_file=None if settings.ca_file is None else self.loaded.locate(settings.ca_file))

    def note_key(self, action: Literal["create", "revoke"], key: VirtualKey, *, actor: str) -> None:
        """The KEY record of a change to virtual keys, durable. Blocking: for commands, before serving."""
        self.record_now(KeyChange(action=action, key_id=key.id, tenant=key.tenant, actor=actor))

    async def drain(self) -> None:
        """After the listeners have closed: every story that has begun is recorded, every connection is closed."""
        await self.gates.journal.drain()
        if self.shipping is not None:
            await self.shipping.drain()
        await self._carriers.aclose()
        await self.issuers.aclose()

    def close(self) -> None:
        """Fold the write-ahead logs away and give the data directory up. Blocking."""
        self._stack.close()

    def _standby(self, loaded: Loaded, clock: Clock) -> Standby | None:
        """Only a store that is not beside the journal can be out of reach while the journal is not."""
        if not is_postgres(loaded.config.storage.url):
            return None
        pepper = fingerprint_of(self.keys.pepper)
        return Standby(self.data.root, secret=self.keys.audit_seed, pepper=pepper, clock=clock)

    def _open_store(self) -> ControlStore:
        control = open_control(self.loaded)
        try:
            bind_pepper(control, self.keys.pepper)
        except BaseException:
            control.close()
            raise
        return control

    def _declared(self, loaded: Loaded) -> tuple[VirtualKey, ...]:
        return declared_keys(loaded, pepper=self.keys.pepper)

    def _idempotency(self, loaded: Loaded) -> Idempotency:
        keys = Idempotency(
            self.data.audit,
            secret=idempotency_secret(self.keys.pepper),
            ttl=loaded.config.cache.idempotency_ttl,
            max_bytes=loaded.config.cache.idempotency_max_bytes,
            clock=self.clock,
        )
        self._writer.perform(keys.restore)
        return keys


def _cache(loaded: Loaded, clock: Clock) -> Cache:
    settings = loaded.config.cache
    return Cache(
        max_entries=settings.max_entries,
        max_bytes=settings.max_bytes,
        ttl=settings.ttl,
        clock=clock,
    )


def open_application(loaded: Loaded, *, startup_code: tuple[StartupCode, ...] = ()) -> Application:
    """The gateway as it runs in earnest."""
    return Application(loaded, clock=SystemClock(), randomness=SystemRandomness(), startup_code=startup_code)
