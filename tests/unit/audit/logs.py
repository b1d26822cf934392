"""A clock that is set by hand, records of every kind, and logs written with them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from securellm.audit import (
    SCHEMA,
    AdminChange,
    AdminDenied,
    AdminRead,
    Attempt,
    AuditLog,
    Boot,
    ConfigChange,
    Denied,
    DeniedAggregate,
    FindingCount,
    IdempotencyKey,
    Intent,
    KeyChange,
    Outcome,
    OutcomeStatus,
    Record,
    Report,
    verify,
)
from securellm.core.errors import Code
from securellm.core.kept import Kept, KeptKind
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.storage import Connection, GroupCommitWriter

SEED = bytes(range(32))


class ManualClock:
    """Time moves only when told to."""

    def __init__(self) -> None:
        self.seconds = 1_795_000_000.0

    def now_us(self) -> int:
        return int(self.seconds * 1_000_000)

    def monotonic(self) -> float:
        return self.seconds


class Counted:
    """Bytes that are never the same twice, and the same in every run."""

    def __init__(self, drawn: int = 0) -> None:
        self.drawn = drawn

    def token(self, size: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(size, "big")

    def fraction(self) -> float:
        return 0.5


FINDING = FindingCount(type="pii", rule="cpf", action="redact", count=2)


def intent(number: int = 1, *, model: str = "gpt-4o-mini") -> Intent:
    return Intent(
        request_id=f"req_{number}",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        tenant="acme",
        key_id="key_1",
        principal="service:billing",
        surface=Surface.CHAT,
        model=model,
        provider="openai",
        upstream_model="gpt-4o-mini",
        route=("openai/gpt-4o-mini", "mock/echo"),
        stream=True,
        message_count=3,
        client_ip="192.0.2.7",
        policy_version="p1",
        price_version="2026-11-01",
        guard_version="g1",
        decision_ids=("dec_1",),
        findings=(FINDING,),
        output_cap=512,
        period="2026-11",
        currency="USD",
        hold=1_000,
        cache="miss",
        idempotency=IdempotencyKey(key="ab" * 32, fingerprint="cd" * 32, expires_us=1_795_000_000_000_000),
    )


def outcome(number: int = 1, *, status: OutcomeStatus = OutcomeStatus.OK) -> Outcome:
    return Outcome(
        request_id=f"req_{number}",
        status=status,
        http_status=200,
        provider="openai",
        model_served="gpt-4o-mini-2024-07-18",
        finish="stop",
        attempts=1,
        usage=Usage(input=10, cache_read=5, output=7, reasoning=3),
        settled=900,
        presumed=0,
        cost_known=True,
        duration_us=123_456,
        first_byte_us=45_678,
        findings=(FINDING,),
        kept=(Kept(KeptKind.RESPONSE, "resp_68af"),),
        answer_of="req_0",
    )


def every_kind() -> tuple[Record, ...]:
    """One record of each noun, with as much in it as it can hold, and one with as little."""
    return (
        Boot(version="0.1.0", config_digest="ab" * 32, snapshot="s1"),
        ConfigChange(actor="signal", config_digest="cd" * 32, snapshot="s2"),
        KeyChange(action="create", key_id="key_2", tenant="acme", actor="admin"),
        KeyChange(action="revoke", key_id="key_2", tenant="acme", actor="admin"),
        AdminChange(
            action="replace",
            resource="tenants",
            resource_id="acme",
            tenant="acme",
            actor="user:user_1",
            request_id="req_admin",
            before="0" * 64,
            after="1" * 64,
        ),
        AdminRead(
            resource="audit/records", resource_id=None, tenant="acme", actor="user:user_1", request_id="req_look"
        ),
        AdminDenied(
            request_id="req_no",
            tenant="acme",
            principal="user:user_1",
            method="PATCH",
            route="/admin/v1/keys/{key_id}",
            names=("key_2",),
            permission="keys:write",
            asked_tenant="acme",
            code=Code.FORBIDDEN,
            reason="the role does not allow it",
            client_ip="192.0.2.1",
        ),
        AdminDenied(
            request_id="req_nowhere",
            tenant=None,
            principal="admin",
            method="GET",
            route=None,
            code=Code.NOT_FOUND,
            reason="nothing is served here",
            client_ip=None,
            times=7,
        ),
        intent(),
        msgspec.structs.replace(intent(), idempotency=None),
        Attempt(
            request_id="req_1",
            number=2,
            provider="mock",
            upstream_model="echo",
            reason=Code.PROVIDER_ERROR,
            presumed=1_000,
            hold=10,
        ),
        *(outcome(status=status) for status in OutcomeStatus),
        Outcome(
            request_id="req_2",
            status=OutcomeStatus.UNKNOWN,
            code=Code.UNKNOWN_OUTCOME,
            reason="the process ended",
            attempts=1,
            settled=0,
            presumed=1_000,
            cost_known=False,
        ),
        Denied(
            request_id="req_3",
            trace_id="0af7651916cd43dd8448eb211c80319c",
            tenant="acme",
            key_id="key_1",
            principal="service:billing",
            surface=Surface.MESSAGES,
            model="gpt-4o-mini",
            code=Code.GUARD_BLOCKED,
            reason="an injection",
            decision_id="dec_2",
            client_ip="2001:db8::7",
            findings=(FINDING,),
        ),
        Denied(request_id="req_4", surface=Surface.EMBEDDINGS, code=Code.MISSING_KEY, reason="no key", client_ip=None),
        DeniedAggregate(count=41, network="192.0.2.0/24", code=Code.INVALID_KEY),
    )


@contextmanager
def opened(
    path: Path, *, clock: ManualClock | None = None, seed: bytes = SEED, randomness: Counted | None = None
) -> Iterator[tuple[GroupCommitWriter, AuditLog]]:
    writer = GroupCommitWriter.open(path, SCHEMA)
    try:
        yield (
            writer,
            AuditLog.open(
                writer,
                writer_id="w1",
                seed=seed,
                clock=clock or ManualClock(),
                randomness=randomness or Counted(),
            ),
        )
    finally:
        writer.close()


def write(path: Path, records: Sequence[Record], *, seed: bytes = SEED, randomness: Counted | None = None) -> str:
    """Append each record in a commit of its own, a second apart, and close the log; its verifier key."""
    clock = ManualClock()
    with opened(path, clock=clock, seed=seed, randomness=randomness) as (writer, log):
        for record in records:
            writer.perform(log.appending(record))
            clock.seconds += 1
        return log.vkey


def check(path: Path, **options: object) -> Report:
    return verify(path, schema=SCHEMA, **options)  # type: ignore[arg-type]


def looking(path: Path, query: str) -> list[tuple[object, ...]]:
    """What `query` finds in the log while nobody writes."""
    writer = GroupCommitWriter.open(path, SCHEMA)
    found: list[tuple[object, ...]] = []

    def look(connection: Connection) -> None:
        found.extend(connection.execute(query))

    writer.perform(look)
    writer.close()
    return found
