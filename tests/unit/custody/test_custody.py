"""What a provider keeps for one tenant does not exist for another, after a restart too, and no row can be changed."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securellm.core.errors import Code, Refusal
from securellm.core.kept import Kept, KeptKind
from securellm.custody import (
    SCHEMA,
    Custody,
    CustodyReplay,
    Deposit,
    Grant,
    keepable,
    keeper,
    keeping,
    places,
)
from securellm.storage import GroupCommitWriter, damage, open_readonly


def deposit(
    *ids: str, tenant: str = "acme", provider: str = "openai", request_id: str = "req_1", gone: tuple[str, ...] = ()
) -> Deposit:
    things = tuple(Kept(KeptKind.RESPONSE, name) for name in ids)
    return Deposit(tenant=tenant, provider=provider, request_id=request_id, things=things, gone=gone)


class Gateway:
    """A journal on the disk, the custody above it, and the records that say the same."""

    def __init__(self, path: Path, *, most: int = 100_000) -> None:
        self.path = path
        self.most = most
        self.entries: list[Mapping[str, object]] = []
        self.writer = GroupCommitWriter.open(path, SCHEMA)
        self.custody = Custody(path, most=most)

    def keep(self, given: Deposit) -> None:
        """A whole request: INTENT, OUTCOME, and the note in memory."""
        self.write(given)
        self.custody.note(given)

    def write(self, given: Deposit) -> None:
        self.writer.perform(keeping(given))
        self.entries += records(given)

    def restart(self) -> None:
        self.writer.close()
        self.writer = GroupCommitWriter.open(self.path, SCHEMA)
        self.custody = Custody(self.path, most=self.most)

    def keeper(self, tenant: str, *ids: str, pinned: str | None = None) -> str:
        return asyncio.run(self.custody.keeper(tenant, ids, pinned=pinned))

    def code(self, tenant: str, *ids: str, pinned: str | None = None) -> tuple[Code, str]:
        with pytest.raises(Refusal) as refused:
            self.keeper(tenant, *ids, pinned=pinned)
        return refused.value.code, refused.value.reason

    def problems(self) -> list[str]:
        replay = CustodyReplay()
        for seq, entry in enumerate(self.entries, start=1):
            replay.record(seq, entry)
        with open_readonly(self.path) as connection:
            return [*damage(connection, self.path, SCHEMA), *replay.problems(connection)]


def records(given: Deposit) -> list[Mapping[str, object]]:
    kept = [{"kind": thing.kind.value, "id": thing.id} for thing in given.things]
    return [
        {"type": "INTENT", "request_id": given.request_id, "tenant": given.tenant},
        {
            "type": "OUTCOME",
            "request_id": given.request_id,
            "provider": given.provider,
            "kept": kept,
            "gone": list(given.gone),
        },
    ]


@contextmanager
def gateway(directory: Path, *, most: int = 100_000) -> Iterator[Gateway]:
    opened = Gateway(directory / "audit.db", most=most)
    try:
        yield opened
        assert opened.problems() == []
    finally:
        opened.writer.close()


@pytest.mark.requirement("GW-6", "ID-4")
def test_a_thing_is_found_by_its_tenant_at_its_provider_and_by_nobody_else(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.keep(deposit("resp_1"))
        for _ in range(2):
            assert opened.keeper("acme", "resp_1") == "openai"
            assert opened.code("other", "resp_1") == opened.code("other", "resp_never")
            assert opened.code("other", "resp_1")[0] is Code.NOT_FOUND
            opened.restart()


@pytest.mark.requirement("GW-6")
def test_what_fell_out_of_memory_or_a_former_process_made_is_found_on_the_disk(tmp_path: Path) -> None:
    with gateway(tmp_path, most=2) as opened:
        opened.keep(deposit(*(f"resp_{number}" for number in range(6))))
        assert [opened.keeper("acme", f"resp_{number}") for number in range(6)] == ["openai"] * 6
        assert opened.keeper("acme", *(f"resp_{number}" for number in range(6))) == "openai"
        opened.restart()
        assert opened.keeper("acme", "resp_3") == "openai"


def test_what_is_found_once_is_not_read_again(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.keep(deposit("resp_1"))
        opened.restart()
        assert opened.keeper("acme", "resp_1") == "openai"
        elsewhere = Custody(tmp_path / "missing.db")
        elsewhere._places.update(opened.custody._places)
        assert asyncio.run(elsewhere.keeper("acme", ("resp_1",))) == "openai"


@pytest.mark.requirement("ID-4")
def test_a_tenants_own_things_alone_spare_it_the_disk(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.keep(deposit("resp_1"))
        assert list(opened.custody._places) == [("acme", "resp_1")], "another's look finds nothing here either"


@pytest.mark.requirement("ID-4")
@pytest.mark.parametrize("between", ["nothing", "a look", "a restart"])
def test_an_id_that_a_provider_gave_to_two_tenants_is_nobodys(tmp_path: Path, between: str) -> None:
    with gateway(tmp_path) as opened:
        opened.keep(deposit("resp_1"))
        if between == "a restart":
            opened.restart()
        if between == "a look":
            opened.keeper("acme", "resp_1")
        opened.keep(deposit("resp_1", tenant="other", request_id="req_2"))
        for _ in range(2):
            assert opened.code("acme", "resp_1")[0] is Code.NOT_FOUND
            assert opened.code("other", "resp_1")[0] is Code.NOT_FOUND
            opened.restart()


@pytest.mark.requirement("GW-6")
def test_what_a_tenant_had_forgotten_is_its_no_more_until_it_is_given_out_again(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.keep(deposit("resp_1", "resp_2"))
        opened.keep(deposit(gone=("resp_1",), request_id="req_2"))
        for _ in range(2):
            assert opened.code("acme", "resp_1") == opened.code("acme", "resp_never")
            assert opened.keeper("acme", "resp_2") == "openai"
            opened.restart()
        opened.keep(deposit("resp_1", tenant="other", request_id="req_3"))
        for _ in range(2):
            assert opened.keeper("other", "resp_1") == "openai"
            assert opened.code("acme", "resp_1")[0] is Code.NOT_FOUND
            opened.restart()
        opened.keep(deposit("resp_2", provider="local", request_id="req_4"))
        opened.keep(deposit(gone=("resp_2",), request_id="req_5"))
        assert opened.keeper("acme", "resp_2") == "local", "elsewhere it is still kept"


@pytest.mark.requirement("ID-4")
def test_only_what_nobody_was_given_is_unknown(tmp_path: Path) -> None:
    def unknown(opened: Gateway, *ids: str, tenant: str = "acme", provider: str = "openai") -> list[str]:
        things = [Kept(KeptKind.ITEM, name) for name in ids]
        return [thing.id for thing in asyncio.run(opened.custody.unknown(tenant, things, provider=provider))]

    with gateway(tmp_path) as opened:
        opened.keep(deposit("mine"))
        opened.keep(deposit("theirs", tenant="other", request_id="req_2"))
        opened.keep(deposit("elsewhere", provider="local", request_id="req_3"))
        opened.keep(deposit(gone=("mine",), request_id="req_4"))
        for _ in range(2):
            assert unknown(opened, "mine", "theirs", "elsewhere", "new", "new", "no id") == ["elsewhere", "new"]
            assert unknown(opened, "elsewhere", provider="local") == []
            assert unknown(opened) == []
            opened.restart()


@pytest.mark.requirement("ID-4")
def test_only_what_others_alone_were_given_is_theirs(tmp_path: Path) -> None:
    def others(opened: Gateway, *ids: str, tenant: str = "acme") -> frozenset[str]:
        return asyncio.run(opened.custody.others(tenant, ids))

    with gateway(tmp_path) as opened:
        opened.keep(deposit("mine", "both"))
        opened.keep(deposit("theirs", "both", "gone", tenant="other", request_id="req_2"))
        opened.keep(deposit(tenant="other", gone=("gone",), request_id="req_3"))
        for _ in range(2):
            assert others(opened, "mine", "theirs", "both", "gone", "new", "no id") == {"theirs", "gone"}
            assert others(opened, "mine", "theirs", "both", tenant="other") == {"mine"}
            assert others(opened) == frozenset()
            opened.restart()
        with pytest.raises(Refusal):
            others(opened, *map(str, range(2_000)))


@pytest.mark.requirement("ID-4")
def test_a_look_waits_for_no_long_text_that_somebody_else_has_screened(tmp_path: Path) -> None:
    async def scene(opened: Gateway) -> str:
        read = threading.Event()
        screening = [asyncio.create_task(asyncio.to_thread(read.wait, 60)) for _ in range(64)]
        await asyncio.sleep(0)  # Now each of them has asked for its thread.
        try:
            async with asyncio.timeout(20):
                return await opened.custody.keeper("acme", ["resp_1"], pinned=None)
        finally:
            read.set()
            await asyncio.gather(*screening)

    with gateway(tmp_path) as opened:
        opened.keep(deposit("resp_1"))
        opened.restart()
        assert asyncio.run(scene(opened)) == "openai"


def test_two_providers_may_give_out_the_same_id(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.keep(deposit("resp_1"))
        opened.keep(deposit("resp_1", tenant="other", provider="local", request_id="req_2"))
        for _ in range(2):
            assert opened.keeper("acme", "resp_1") == "openai"
            assert opened.keeper("other", "resp_1") == "local"
            opened.restart()
        opened.keep(deposit("resp_1", provider="third", request_id="req_3"))
        for _ in range(2):
            assert opened.keeper("acme", "resp_1") == "third", "the newest"
            assert opened.keeper("acme", "resp_1", pinned="openai") == "openai"
            opened.restart()


def test_a_request_goes_where_all_that_it_names_is_kept(tmp_path: Path) -> None:
    with gateway(tmp_path) as opened:
        opened.keep(deposit("resp_1", "file_1"))
        opened.keep(deposit("file_1", "file_2", provider="local", request_id="req_2"))
        assert opened.keeper("acme", "resp_1", "file_1") == "openai"
        assert opened.keeper("acme", "file_2", "file_1") == "local"
        assert opened.code("acme", "resp_1", "file_2")[0] is Code.NO_ROUTE
        assert opened.code("acme", "resp_1", "file_9")[0] is Code.NOT_FOUND
        assert opened.code("acme", "resp_1", pinned="local")[0] is Code.NOT_FOUND
        assert opened.code("acme", *(f"file_{number}" for number in range(1025)))[0] is Code.INVALID_REQUEST


def test_a_look_that_began_before_another_tenants_claim_brings_nothing_back(tmp_path: Path) -> None:
    async def scene(opened: Gateway) -> None:
        read = opened.custody._read
        claimed = False

        def slowly(ids: list[str]) -> dict[str, tuple[Grant, ...]]:
            nonlocal claimed
            found = read(ids)
            if not claimed:
                claimed = True
                theirs = deposit("resp_1", tenant="other", request_id="req_2")
                opened.write(theirs)
                opened.custody.note(theirs)
            return found

        opened.custody._read = slowly  # type: ignore[method-assign]
        with pytest.raises(Refusal):
            await opened.custody.keeper("acme", ("resp_1",))
        assert claimed

    with gateway(tmp_path) as opened:
        opened.keep(deposit("resp_1"))
        opened.restart()
        asyncio.run(scene(opened))


@pytest.mark.parametrize("name", ["", "a b", "a\n", "é", "\ud800", "x" * 257])
def test_an_id_that_no_record_could_hold_is_never_kept_nor_found(tmp_path: Path, name: str) -> None:
    assert not keepable(name)
    with gateway(tmp_path) as opened:
        assert opened.code("acme", name)[0] is Code.NOT_FOUND


def test_ids_of_every_provider_can_be_kept() -> None:
    for name in (
        "resp_68af",
        "files/abc-123",
        "cachedContents/x",
        "msgbatch_01",
        "https://host/v1beta/files/a",
        "x" * 256,
    ):
        assert keepable(name)


@pytest.mark.requirement("AU-4")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE custody SET tenant = 'other' WHERE seq = 1",
        "UPDATE custody SET provider = 'other' WHERE seq = 1",
        "UPDATE custody SET id = 'resp_9' WHERE seq = 1",
        "UPDATE custody SET kind = 'file' WHERE seq = 1",
        "UPDATE custody SET request_id = 'req_9' WHERE seq = 1",
        "UPDATE custody SET seq = 9 WHERE seq = 2",
        "DELETE FROM custody WHERE seq = 2",
        "DELETE FROM custody",
        "UPDATE custody SET kind = 'gone' WHERE seq = 1",
        "UPDATE custody SET workload = '{}' WHERE seq = 1",
        "INSERT INTO custody (id, provider, kind, tenant, request_id, workload) VALUES ('', 'p', 'file', 't', 'q', '')",
    ],
)
def test_any_change_of_the_table_is_noticed_and_needs_a_trigger_dropped(tmp_path: Path, change: str) -> None:
    opened = Gateway(tmp_path / "audit.db")
    opened.keep(deposit("resp_1", "file_1"))
    opened.writer.close()
    connection = sqlite3.connect(opened.path, isolation_level=None)
    if not change.startswith("INSERT"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(change)
    connection.execute("DROP TRIGGER custody_keeps")
    connection.execute("DROP TRIGGER custody_stays")
    connection.execute(change)
    for statement in SCHEMA:
        if statement.startswith("CREATE TRIGGER"):
            connection.execute(statement)
    connection.close()
    replay = CustodyReplay()
    for seq, entry in enumerate(opened.entries, start=1):
        replay.record(seq, entry)
    with open_readonly(opened.path) as view:
        assert any(problem.startswith("custody: ") for problem in replay.problems(view))


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "OUTCOME", "request_id": "r1", "provider": "p", "kept": "resp_1"},
        {"type": "OUTCOME", "request_id": "r1", "provider": "p", "kept": ["resp_1"]},
        {"type": "OUTCOME", "request_id": "r1", "provider": "p", "kept": [], "gone": "resp_1"},
        {"type": "OUTCOME", "request_id": "r1", "provider": "p", "kept": [], "gone": [7]},
        {"type": "OUTCOME", "request_id": "r1", "provider": "p", "kept": [{"kind": "file"}]},
        {"type": "OUTCOME", "request_id": "r1", "provider": None, "kept": [{"kind": "file", "id": "f"}]},
        {"type": "OUTCOME", "request_id": "r2", "provider": "p", "kept": [{"kind": "file", "id": "f"}]},
    ],
)
def test_a_record_that_no_gateway_writes_is_a_problem(tmp_path: Path, entry: Mapping[str, object]) -> None:
    with gateway(tmp_path) as opened:
        replay = CustodyReplay()
        replay.record(1, {"type": "INTENT", "request_id": "r1", "tenant": "acme"})
        replay.record(2, entry)
        with open_readonly(opened.path) as connection:
            assert list(replay.problems(connection)) == ["record 2: what it says is kept cannot be"]


def test_records_that_keep_nothing_are_no_concern_of_custody(tmp_path: Path) -> None:
    old = {"type": "OUTCOME", "request_id": "r1"}
    with gateway(tmp_path) as opened:
        opened.entries += [{"type": "BOOT"}, old, {"type": "DENY", "request_id": "r2", "tenant": "acme"}, {"type": 7}]


GRANTS = st.lists(st.builds(Grant, st.sampled_from("pqr"), st.sampled_from("abc"), st.booleans()), max_size=8)


@given(GRANTS, st.sampled_from("abc"))
def test_a_place_is_never_one_where_another_tenant_has_a_claim(grants: list[Grant], tenant: str) -> None:
    found = places(grants, tenant)
    for provider in "pqr":
        last_words = {grant.tenant: grant for grant in grants if grant.provider == provider}
        tenants = {grant.tenant for grant in last_words.values() if not grant.gone}
        assert (provider in found) is (tenants == {tenant})
    last = {provider: max(i for i, grant in enumerate(grants) if grant.provider == provider) for provider in found}
    assert list(found) == sorted(found, key=lambda provider: -last[provider])


@given(
    st.lists(st.lists(st.sampled_from("pqr"), unique=True), min_size=1, max_size=4), st.none() | st.sampled_from("pq")
)
def test_the_keeper_keeps_everything(kept_at: list[list[str]], pinned: str | None) -> None:
    able = [p for p in "pqr" if all(p in each for each in kept_at) and pinned in (None, p)]
    try:
        assert keeper(kept_at, pinned=pinned) in able
    except Refusal as refusal:
        assert not able
        assert refusal.code in (Code.NOT_FOUND, Code.NO_ROUTE)  # noqa: PT017


class Model:
    """Whose what is, in ten lines."""

    def __init__(self) -> None:
        self.grants: list[tuple[str, str, str]] = []

    def at(self, tenant: str, name: str) -> set[str]:
        mine = {provider for who, provider, what in self.grants if (who, what) == (tenant, name)}
        return {
            p for p in mine if {who for who, provider, what in self.grants if (provider, what) == (p, name)} == {tenant}
        }


STEPS = st.one_of(
    st.tuples(st.just("keep"), st.sampled_from("ab"), st.sampled_from("pq"), st.sampled_from("xyz")),
    st.tuples(st.just("look"), st.sampled_from("ab"), st.none(), st.sampled_from("xyz")),
    st.tuples(st.just("forget"), st.sampled_from("ab"), st.none(), st.sampled_from("xyz")),
    st.tuples(st.just("crash"), st.none(), st.none(), st.none()),
)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEPS, max_size=14))
def test_memory_and_disk_always_say_the_same_over_restarts(
    tmp_path_factory: pytest.TempPathFactory, steps: Iterable[tuple[str, str, str, str]]
) -> None:
    model = Model()
    with gateway(tmp_path_factory.mktemp("custody"), most=2) as opened:
        for number, (step, tenant, provider, name) in enumerate(steps):
            if step == "keep":
                opened.keep(deposit(name, tenant=tenant, provider=provider, request_id=f"req_{number}"))
                model.grants.append((tenant, provider, name))
            elif step == "crash":
                opened.restart()
            elif step == "forget":
                # A story forgets what it has found, where it has found it.
                for place in sorted(model.at(tenant, name)):
                    forgotten = deposit(gone=(name,), tenant=tenant, provider=place, request_id=f"req_{number}{place}")
                    opened.keep(forgotten)
                    model.grants = [grant for grant in model.grants if grant != (tenant, place, name)]
            elif at := model.at(tenant, name):
                assert opened.keeper(tenant, name) in at
            else:
                assert opened.code(tenant, name)[0] is Code.NOT_FOUND
