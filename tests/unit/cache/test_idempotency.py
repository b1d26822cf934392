"""One request asked twice is answered twice and made once, whatever fails, is forgotten or crashes in between."""

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.clocks import ManualClock

from securellm.cache import (
    LARGEST_ANSWER,
    SCHEMA,
    Claim,
    Finished,
    Idempotency,
    IdempotencyReplay,
    freeing,
    idempotency_secret,
    taking,
)
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.storage import GroupCommitWriter, damage, open_readonly

TTL = 100.0
SECRET = idempotency_secret(bytes(32))


class Gateway:
    """A journal on the disk, the keys above it, and the records that say the same."""

    def __init__(self, path: Path, *, most: int = 1000, max_bytes: int = 1 << 20, ttl: float = TTL) -> None:
        self.path = path
        self.clock = ManualClock()
        self.bounds = {"most": most, "max_bytes": max_bytes, "ttl": ttl}
        self.entries: list[Mapping[str, object]] = []
        self.asked = 0
        self.open()

    def open(self) -> None:
        self.writer = GroupCommitWriter.open(self.path, SCHEMA)
        bounds: dict[str, Any] = self.bounds
        self.keys = Idempotency(self.path, secret=SECRET, clock=self.clock, **bounds)
        self.writer.perform(self.keys.restore)

    def restart(self) -> None:
        self.writer.close()
        self.open()

    async def claim(self, name: str = "k", asked: bytes = b"{}", **changes: Any) -> Claim | Finished:
        self.asked += 1
        how: dict[str, Any] = {
            "tenant": "acme",
            "principal": "key_1",
            "surface": Surface.CHAT,
            "model": "gpt",
            "stream": False,
            "request_id": f"req_{self.asked}",
            **changes,
        }
        return await self.keys.claim(name, asked=asked, **how)

    def first(self, name: str = "k", asked: bytes = b"{}", **changes: Any) -> Claim:
        """The claim of a request that is the first of its key."""
        claim = asyncio.run(self.claim(name, asked, **changes))
        assert isinstance(claim, Claim)
        return claim

    def again(self, name: str = "k", asked: bytes = b"{}", **changes: Any) -> Finished:
        found = asyncio.run(self.claim(name, asked, **changes))
        assert isinstance(found, Finished)
        return found

    def refused(self, name: str = "k", asked: bytes = b"{}", **changes: Any) -> Refusal:
        with pytest.raises(Refusal) as refused:
            asyncio.run(self.claim(name, asked, **changes))
        return refused.value

    def intent(self, claim: Claim) -> None:
        self.writer.perform(taking(claim))
        stated = {"key": claim.key.hex(), "fingerprint": claim.fingerprint.hex(), "expires_us": claim.expires_us}
        self.entries.append({"type": "INTENT", "request_id": claim.request_id, "idempotency": stated})

    def outcome(self, claim: Claim, *, freed: bool = False) -> None:
        if freed:
            self.writer.perform(freeing(claim))
        self.entries.append({"type": "OUTCOME", "request_id": claim.request_id, "key_freed": freed})
        self.keys.ended(claim, freed=freed)

    def finish(self, claim: Claim, answer: Finished | None = None, *, freed: bool = False) -> None:
        """A whole request after its claim, as the story tells it."""
        self.intent(claim)
        self.outcome(claim, freed=freed)
        if answer is not None:
            self.keys.answered(claim, answer)
        self.keys.left(claim, recorded=True)

    def problems(self) -> list[str]:
        replay = IdempotencyReplay()
        for seq, entry in enumerate(self.entries, start=1):
            replay.record(seq, entry)
        with open_readonly(self.path) as connection:
            return [*damage(connection, self.path, SCHEMA), *replay.problems(connection)]


@contextmanager
def gateway(directory: Path, **bounds: Any) -> Iterator[Gateway]:
    opened = Gateway(directory / "audit.db", **bounds)
    try:
        yield opened
        assert opened.problems() == []
    finally:
        opened.writer.close()


def answer(body: bytes = b'{"a":1}', *, streamed: bool = False, request_id: str = "req_1") -> Finished:
    return Finished(
        status=200,
        headers=((b"content-type", b"application/json"),),
        body=body,
        streamed=streamed,
        model_served="gpt",
        request_id=request_id,
    )


@pytest.mark.requirement("GW-11")
def test_a_finished_answer_is_given_again_and_only_to_the_same_request(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.finish(opened.first(), answer())
        assert opened.again() == opened.again() == answer()
        for other in ({"asked": b"[]"}, {"surface": Surface.RESPONSES}, {"model": "o"}, {"stream": True}):
            refusal = opened.refused(**other)
            assert (refusal.code, refusal.status, refusal.retryable) == (Code.IDEMPOTENT_MISMATCH, 422, False)


@pytest.mark.requirement("GW-11", "ID-4")
def test_the_same_name_of_another_tenant_or_principal_is_another_key(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        claims = [
            opened.first(),
            opened.first(tenant="other"),
            opened.first(principal="key_2"),
            opened.first(name="k2"),
            opened.first(tenant="acmek", principal="ey_1"),
        ]
        assert len({claim.key for claim in claims}) == len(claims)


@pytest.mark.requirement("GW-11")
def test_while_the_first_runs_the_second_is_told_to_come_again(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        claim = opened.first()
        for step in ("claimed", "intent", "outcome"):
            if step == "intent":
                opened.intent(claim)
            if step == "outcome":
                opened.outcome(claim)
            refusal = opened.refused()
            assert (refusal.code, refusal.status, refusal.retryable) == (Code.IDEMPOTENT_IN_FLIGHT, 409, True)
            assert refusal.retry_after == 1
            assert opened.refused(asked=b"[]").code is Code.IDEMPOTENT_MISMATCH
        opened.keys.answered(claim, answer())
        assert opened.again() == answer(), "the client that never saw the last bytes need not have left"


@pytest.mark.requirement("GW-11")
def test_of_many_at_once_one_gets_the_claim_also_when_the_disk_must_be_asked(tmp_path: Path) -> None:
    async def scene(opened: Gateway) -> None:
        found = await asyncio.gather(*(opened.claim("wanted") for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(each, Claim) for each in found) == 1
        codes = {each.code for each in found if isinstance(each, Refusal)}
        assert codes == {Code.IDEMPOTENT_IN_FLIGHT}

    for most in (1000, 1):
        (tmp_path / str(most)).mkdir()
        with gateway(tmp_path / str(most), most=most) as opened:
            opened.finish(opened.first("one"), answer())
            opened.finish(opened.first("two"), answer())
            asyncio.run(scene(opened))


@pytest.mark.requirement("GW-11")
@pytest.mark.parametrize("recorded", [False, True])
def test_what_cost_nothing_frees_its_key(tmp_path: Path, recorded: bool) -> None:
    with gateway(tmp_path) as opened:
        claim = opened.first()
        if recorded:
            opened.finish(claim, freed=True)
        else:
            opened.keys.left(claim, recorded=False)
        second = opened.first(asked=b"another request even")
        opened.keys.left(claim, recorded=False)
        opened.keys.ended(claim, freed=True)
        opened.keys.answered(claim, answer())
        assert opened.refused(asked=b"another request even").code is Code.IDEMPOTENT_IN_FLIGHT, "the first is no more"
        opened.finish(second, answer(b"2"))
        opened.restart()
        assert opened.refused(asked=b"another request even").code is Code.IDEMPOTENT_RESULT_EXPIRED


@pytest.mark.requirement("GW-11", "PV-1")
@pytest.mark.parametrize("lost", ["none came", "too large", "pushed out", "restart", "restart in flight"])
def test_with_the_answer_gone_the_request_is_not_made_again(tmp_path: Path, lost: str) -> None:
    with gateway(tmp_path, max_bytes=LARGEST_ANSWER + 4096) as opened:
        claim = opened.first()
        if lost == "restart in flight":
            opened.intent(claim)
            opened.restart()
        else:
            size = LARGEST_ANSWER + 1 if lost == "too large" else LARGEST_ANSWER
            opened.finish(claim, None if lost == "none came" else answer(b"x" * size))
        if lost == "pushed out":
            assert opened.again() == answer(b"x" * LARGEST_ANSWER)
            opened.finish(opened.first("other"), answer(b"x" * LARGEST_ANSWER, request_id="req_2"))
            assert opened.again("other").request_id == "req_2"
        if lost == "restart":
            opened.restart()
        for _ in range(2):
            refusal = opened.refused()
            assert (refusal.code, refusal.status) == (Code.IDEMPOTENT_RESULT_EXPIRED, 409)
            assert not refusal.retryable
            assert claim.request_id in refusal.reason
            assert opened.refused(asked=b"[]").code is Code.IDEMPOTENT_MISMATCH
            opened.restart()


@pytest.mark.requirement("GW-11")
def test_a_flood_of_one_tenants_answers_pushes_out_its_own_and_nobody_elses(tmp_path: Path) -> None:
    with gateway(tmp_path, max_bytes=20_000) as opened:
        quiet = opened.first("theirs", tenant="quiet")
        opened.finish(quiet, answer(b"kept", request_id=quiet.request_id))
        for number in range(40):
            claim = opened.first(f"k{number}")
            opened.finish(claim, answer(b"x" * 1_000, request_id=claim.request_id))
            assert opened.keys.kept_bytes <= 20_000
        assert opened.again("theirs", tenant="quiet").body == b"kept"
        assert opened.again("k39").body == b"x" * 1_000
        assert opened.refused("k0").code is Code.IDEMPOTENT_RESULT_EXPIRED
        opened.clock.advance(TTL + 1)
        opened.keys.sweep()
        assert opened.keys.kept_bytes == 0


def test_an_intent_that_was_never_durable_took_nothing(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.first()
        opened.restart()
        opened.first()


@pytest.mark.requirement("GW-11")
def test_a_key_is_forgotten_after_its_time_and_its_answer_with_it(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.finish(opened.first(), answer())
        opened.clock.advance(TTL - 1)
        assert opened.again() == answer()
        opened.clock.advance(2)
        opened.keys.sweep()
        assert opened.keys.kept_bytes == 0
        opened.finish(opened.first(asked=b"new"), answer(b"2"))
        opened.clock.advance(TTL - 1)
        opened.restart()
        assert opened.refused(asked=b"new").code is Code.IDEMPOTENT_RESULT_EXPIRED
        opened.clock.advance(2)
        opened.restart()
        opened.first()


def test_a_request_that_outlives_its_keys_time_still_holds_it(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        claim = opened.first()
        opened.clock.advance(10 * TTL)
        opened.keys.sweep()
        assert opened.refused().code is Code.IDEMPOTENT_IN_FLIGHT
        opened.finish(claim, answer())
        opened.first()


def test_a_clock_set_back_keeps_no_key_for_ever(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.finish(opened.first())
        opened.clock.us -= 365 * 86_400 * 1_000_000
        opened.restart()
        assert opened.refused().code is Code.IDEMPOTENT_RESULT_EXPIRED
        opened.clock.advance(7 * 86_400 + 1)
        opened.first()


@pytest.mark.requirement("GW-11")
def test_a_key_pushed_out_of_memory_is_read_again(tmp_path: Path) -> None:
    with gateway(tmp_path, most=2) as opened:
        for number in range(5):
            opened.finish(opened.first(f"k{number}"), answer())
        for _ in range(2):
            for number in range(5):
                assert opened.refused(f"k{number}", asked=b"[]").code is Code.IDEMPOTENT_MISMATCH
            opened.restart()
        opened.finish(opened.first("k9"), freed=True)
        opened.restart()
        assert opened.refused("k0", asked=b"[]").code is Code.IDEMPOTENT_MISMATCH, (
            "nothing is in memory, yet all is known"
        )
        opened.first("k9")


def test_a_look_that_fails_leaves_the_key_as_it_was(tmp_path: Path) -> None:
    with gateway(tmp_path, most=1) as opened:
        opened.finish(opened.first("one"))
        opened.finish(opened.first("two"))
        read = opened.keys._read

        def broken(key: bytes) -> Any:
            raise OSError("no disk")

        opened.keys._read = broken  # type: ignore[method-assign]
        with pytest.raises(OSError, match="no disk"):
            opened.first("one")
        opened.keys._read = read  # type: ignore[method-assign]
        assert opened.refused("one").code is Code.IDEMPOTENT_RESULT_EXPIRED


@pytest.mark.requirement("GW-11")
@pytest.mark.parametrize("name", ["", "x" * 256, "é", "a\tb", "a\n", "\x7f", "\ud800"])
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    with gateway(tmp_path) as opened:
        refusal = opened.refused(name)
        assert (refusal.code, refusal.status, refusal.param) == (Code.INVALID_HEADER, 400, "idempotency-key")
        opened.first("x" * 255)
        opened.first("a b!~")


@pytest.mark.requirement("PV-1")
def test_neither_names_nor_requests_nor_answers_are_written(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.finish(opened.first("order 4711", b"a secret prompt"), answer(b"a secret answer"))
        opened.writer.close()
        stored = (tmp_path / "audit.db").read_bytes()
        assert b"order 4711" not in stored
        assert b"secret" not in stored
        other = Idempotency(opened.path, secret=idempotency_secret(b"\1" * 32), ttl=1, max_bytes=0, clock=opened.clock)
        opened.keys = other
        theirs = opened.first("order 4711", b"a secret prompt")
        assert theirs.key not in stored
        assert theirs.fingerprint not in stored
        opened.restart()


@pytest.mark.requirement("AU-4")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE idempotency SET event = 'freed' WHERE seq = 1",
        "UPDATE idempotency SET key = x'00' WHERE seq = 1",
        "UPDATE idempotency SET fingerprint = x'00' WHERE seq = 1",
        "UPDATE idempotency SET request_id = 'req_9' WHERE seq = 1",
        "UPDATE idempotency SET expires_us = 1 WHERE seq = 1",
        "UPDATE idempotency SET seq = 9 WHERE seq = 3",
        "DELETE FROM idempotency WHERE seq = 3",
        "DELETE FROM idempotency",
        "INSERT INTO idempotency (key, event, fingerprint, request_id, expires_us) VALUES (x'0', 'freed', x'', 'r', 1)",
    ],
)
def test_any_change_of_the_table_is_noticed_and_needs_a_trigger_dropped(tmp_path: Path, change: str) -> None:
    opened = Gateway(tmp_path / "audit.db")
    opened.finish(opened.first(), freed=True)
    opened.finish(opened.first(), answer())
    assert opened.problems() == []
    opened.writer.close()
    connection = sqlite3.connect(opened.path, isolation_level=None)
    change = change.replace("x'0'", "x'00'")
    if not change.startswith("INSERT"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(change)
    connection.execute("DROP TRIGGER idempotency_keeps")
    connection.execute("DROP TRIGGER idempotency_stays")
    connection.execute(change)
    for statement in SCHEMA[2:]:
        connection.execute(statement)
    connection.close()
    assert any(problem.startswith("idempotency: ") for problem in opened.problems())


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "INTENT", "request_id": "r", "idempotency": "k"},
        {"type": "INTENT", "request_id": "r", "idempotency": {}},
        {"type": "INTENT", "request_id": "r", "idempotency": {"key": "zz", "fingerprint": "00", "expires_us": 1}},
        {"type": "INTENT", "request_id": "r", "idempotency": {"key": 7, "fingerprint": "00", "expires_us": 1}},
        {"type": "INTENT", "request_id": "r", "idempotency": {"key": "00", "fingerprint": "00", "expires_us": True}},
        {"type": "OUTCOME", "request_id": "r", "key_freed": True},
    ],
)
def test_a_record_that_no_gateway_writes_is_a_problem(tmp_path: Path, entry: Mapping[str, object]) -> None:
    opened = Gateway(tmp_path / "audit.db")
    opened.entries.append(entry)
    assert any(problem.startswith("record 1: ") for problem in opened.problems())
    opened.writer.close()


def test_records_without_a_key_are_no_concern_of_the_table(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.entries += [
            {"type": "BOOT"},
            {"type": "INTENT", "request_id": "r1"},
            {"type": "INTENT", "request_id": "r2", "idempotency": None},
            {"type": "OUTCOME", "request_id": "r1"},
            {"type": "OUTCOME", "request_id": "r2", "key_freed": False},
        ]
