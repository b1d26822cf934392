"""One contract for the control plane's store on SQLite and on a real PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Executable, bindparam, delete, exists, func, insert, literal_column, select, table, text, update
from sqlalchemy.dialects import postgresql, sqlite
from tests.contract.shops import (
    CARDS,
    HOUSE,
    ITEMS,
    ORDERS,
    SHOPS,
    SIGNS,
    VISITS,
    Card,
    Place,
    clear,
    postgres_place,
    sqlite_place,
)
from tests.postgres import Postgres

from securellm.core.errors import Code, Fault, Refusal
from securellm.storage import (
    EVERYWHERE,
    Change,
    ControlStore,
    OutOfScope,
    Scope,
    Session,
    Shelved,
    StorageConflict,
)
from securellm.storage.control import KEPT
from securellm.storage.tables import CHANGES, DATA_VERSION

A, B = Scope("a"), Scope("b")


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Place, ControlStore]]:
    if request.param == "sqlite":
        with sqlite_place(tmp_path_factory.mktemp("control")) as made:
            yield made
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    with (
        server.database(template=request.getfixturevalue("postgres_template")) as database,
        postgres_place(database) as made,
    ):
        yield made


@pytest.fixture
def place(opened: tuple[Place, ControlStore]) -> Place:
    return opened[0]


@pytest.fixture
def store(opened: tuple[Place, ControlStore]) -> ControlStore:
    clear(opened[1])
    return opened[1]


def add(store: ControlStore, name: str, *, tenant: str = "a", price: int = 1, **columns: Any) -> None:
    store.write(lambda session: session.run(insert(ITEMS).values(id=name, tenant=tenant, price=price, **columns)))


def ids(store: ControlStore, scope: Scope = EVERYWHERE) -> list[tuple[str, str]]:
    query = select(ITEMS.c.tenant, ITEMS.c.id).order_by(ITEMS.c.tenant, ITEMS.c.id)
    return [(row.tenant, row.id) for row in store.read(lambda session: session.rows(query), scope=scope)]


@pytest.fixture
def stocked(store: ControlStore) -> ControlStore:
    """Two tenants with the same ids, and an order each."""

    def fill(session: Session) -> None:
        for tenant, price in (("a", 10), ("b", 1000)):
            for name in ("1", "2"):
                session.run(insert(ITEMS).values(id=name, tenant=tenant, price=price, label=f"{tenant}{name}"))
            session.run(insert(ORDERS).values(id="o", tenant=tenant, item="1"))
        session.run(insert(ITEMS).values(id="3", tenant="b", price=1000, label="b3"))
        session.run(insert(ORDERS).values(id="p", tenant="b", item="3"))
        session.run(insert(HOUSE).values(name="till", worth=7))

    store.write(fill)
    return store


# Transactions and their version


def test_every_write_moves_the_version_for_every_process_and_reads_do_not(place: Place, store: ControlStore) -> None:
    before = store.version
    other = place.open()
    add(store, "1")
    add(other, "2")
    assert store.version == other.version == before + 2
    assert ids(store) == ids(other) == [("a", "1"), ("a", "2")]
    assert store.version == before + 2
    other.close()


def test_a_write_that_raises_changes_nothing(store: ControlStore) -> None:
    before = store.version

    def half(session: Session) -> None:
        session.run(insert(ITEMS).values(id="1", tenant="a", price=1))
        session.note("item", tenant="a", name="1")
        raise LookupError("no such tenant")

    with pytest.raises(LookupError):
        store.write(half)
    assert ids(store) == []
    assert (store.version, store.changes(before).items) == (before, ())


def test_a_unique_or_foreign_key_is_a_conflict_and_a_missing_value_a_fault(stocked: ControlStore) -> None:
    before = stocked.version
    with pytest.raises(StorageConflict):
        add(stocked, "1")
    with pytest.raises(StorageConflict):
        stocked.write(lambda session: session.run(insert(ORDERS).values(id="q", tenant="a", item="9")))
    with pytest.raises(StorageConflict):
        stocked.write(lambda session: session.run(delete(ITEMS).where(ITEMS.c.id == "1")))
    with pytest.raises(Fault) as fault:
        stocked.write(lambda session: session.run(insert(ITEMS).values(id="9", tenant="a", price=None)))
    assert fault.value.code is Code.STORAGE_UNAVAILABLE
    assert stocked.version == before


def test_nothing_is_committed_after_a_failed_statement_even_when_the_change_goes_on(store: ControlStore) -> None:
    add(store, "1")

    def stubborn(session: Session) -> str:
        session.run(insert(ITEMS).values(id="2", tenant="a", price=1))
        with pytest.raises(StorageConflict):
            session.run(insert(ITEMS).values(id="1", tenant="a", price=1))
        with pytest.raises(StorageConflict):
            session.rows(select(ITEMS))
        return "done"

    with pytest.raises(StorageConflict):
        store.write(stubborn)
    assert ids(store) == [("a", "1")]


def test_the_last_word_before_a_commit_sees_the_result_and_can_undo_all_of_it(
    place: Place, store: ControlStore
) -> None:
    other = place.open()
    seen: list[object] = []

    def look(result: int) -> None:
        seen.append((result, ids(other)))

    def refuse(result: int) -> None:
        raise Fault(Code.AUDIT_UNAVAILABLE, "no record, no change")

    def change(session: Session) -> int:
        return session.run(insert(ITEMS).values(id="1", tenant="a", price=1))

    with pytest.raises(Fault) as fault:
        store.write(change, before_commit=refuse)
    assert fault.value.code is Code.AUDIT_UNAVAILABLE
    assert ids(store) == []
    assert store.write(change, before_commit=look) == 1
    assert seen == [(1, [])]
    assert ids(other) == [("a", "1")]
    other.close()


def test_a_read_sees_one_moment(place: Place, store: ControlStore) -> None:
    other = place.open()

    def twice(session: Session) -> list[int]:
        counts = []
        for name in ("1", "2"):
            row = session.row(select(func.count()).select_from(ITEMS))
            assert row is not None
            counts.append(row[0])
            add(other, name)
        return counts

    assert store.read(twice) == [0, 0]
    assert len(ids(store)) == 2
    other.close()


def test_what_a_write_reads_stays_true_until_its_commit(place: Place, store: ControlStore) -> None:
    add(store, "1", price=0)
    stores = [store, place.open()]

    def increment(session: Session) -> None:
        row = session.row(select(ITEMS.c.price))
        assert row is not None
        session.run(update(ITEMS).values(price=row.price + 1))

    def ten(one: ControlStore) -> None:
        for _ in range(10):
            one.write(increment)

    threads = [threading.Thread(target=ten, args=(one,)) for one in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    row = store.read(lambda session: session.row(select(ITEMS.c.price)))
    assert row is not None
    assert row.price == 40
    stores[1].close()


def test_nothing_is_changed_in_a_read_and_nothing_is_changed_by_a_query(store: ControlStore) -> None:
    with pytest.raises(TypeError):
        store.read(lambda session: session.run(delete(ITEMS)))
    with pytest.raises(TypeError):
        store.write(lambda session: session.rows(delete(ITEMS)))
    with pytest.raises(Fault):
        store.read(lambda session: session.rows(text("SELECT * FROM nowhere")))


# What followers learn


def test_changes_are_told_in_order_once_each(store: ControlStore) -> None:
    start = store.version

    def change(session: Session) -> None:
        session.note("key", tenant="a", name="k1")
        session.note("tenant", tenant="", name="b")

    store.write(change)
    store.write(lambda session: CARDS.create(session, Card("t"), id="c", tenant="a", now_us=1))
    changes = store.changes(start)
    assert changes.complete
    assert changes.items == (
        Change(start + 1, "key", "a", "k1"),
        Change(start + 1, "tenant", "", "b"),
        Change(start + 2, "card", "a", "c"),
    )
    assert store.changes(start + 1).items == changes.items[2:]
    now = store.changes(changes.version)
    assert (now.version, now.complete, now.items) == (start + 2, True, ())


def test_a_silent_write_to_a_followed_table_says_that_anything_may_have_changed(store: ControlStore) -> None:
    start = store.version
    store.write(lambda session: session.run(insert(VISITS).values(id="1", tenant="a", count=1)))
    changes = store.changes(start)
    assert (changes.version, changes.complete, changes.items) == (start + 1, True, ())
    add(store, "1")
    changes = store.changes(start)
    assert (changes.version, changes.complete, changes.items) == (start + 2, False, ())
    assert store.changes(start + 2).complete


def test_who_is_too_far_behind_or_ahead_of_the_database_reads_everything_anew(store: ControlStore) -> None:
    start = store.version
    store.write(lambda session: session.note("key", tenant="a", name="k"))
    store.write(lambda session: session.run(update(DATA_VERSION).values(version=start + KEPT)))
    store.write(lambda session: session.note("key", tenant="a", name="l"))
    assert not store.changes(start).complete
    after = store.changes(start + 1)
    assert after.complete
    assert [change.name for change in after.items] == ["l"]
    assert not store.changes(after.version + 1).complete
    rows = store.read(lambda session: session.rows(text("SELECT name FROM changes WHERE kind <> 'write'")))
    assert [row.name for row in rows] == ["l"], "old changes are thrown away"


@pytest.mark.requirement("ID-2", "ST-1")
def test_numbers_that_were_lost_and_given_again_are_another_history(store: ControlStore) -> None:
    def say(name: str) -> Callable[[Session], None]:
        return lambda session: session.note("key", tenant="a", name=name)

    start = store.changes(store.version)
    store.write(say("kept"))
    lost = store.changes(store.version)
    store.write(say("never seen"))

    def fall_back(session: Session) -> None:
        """As a server that took over without the last writes."""
        session.run(delete(CHANGES).where(CHANGES.c.version > start.version))
        session.run(update(DATA_VERSION).values(version=start.version))

    store.write(fall_back)
    store.write(say("instead"))
    assert store.version == lost.version
    told = store.changes(lost.version, stamp=lost.stamp)
    assert (told.complete, told.items) == (False, ())
    told = store.changes(start.version, stamp=start.stamp)
    assert told.complete
    assert [change.name for change in told.items if change.version == lost.version] == ["instead"]
    assert store.changes(told.version, stamp=told.stamp).complete


def test_a_listener_is_told_of_writes_of_others_where_the_engine_can(place: Place, store: ControlStore) -> None:
    heard: list[int] = []
    arrived = threading.Event()

    def hear(version: int) -> None:
        heard.append(version)
        arrived.set()

    stop = store.listen(hear)
    other = place.open()
    if place.engine == "postgres":
        for _ in range(200):  # The first announcements may come before anybody listens.
            add(other, f"{other.version}")
            if arrived.wait(0.05):
                break
        assert heard
        assert heard[0] <= other.version
    stop()
    known = len(heard)
    add(other, "after")
    assert len(heard) == known
    other.close()


# Values


def test_every_kind_of_column_gives_back_what_it_was_given(store: ControlStore) -> None:
    facts = {"nested": [1, 2.5, None, True, "é\U0001f600"], "empty": {}, "": ""}
    add(store, "1", price=-(1 << 63), label="ç 'quoted' \\ %s :x", seal=bytes(range(256)), sold=True, facts=facts)
    add(store, "2", price=(1 << 63) - 1, sold=False)
    one, two = store.read(lambda session: session.rows(select(ITEMS).order_by(ITEMS.c.id)))
    assert (one.price, one.label, one.seal, one.sold, one.facts) == (
        -(1 << 63),
        "ç 'quoted' \\ %s :x",
        bytes(range(256)),
        True,
        facts,
    )
    assert (two.price, two.label, two.seal, two.sold, two.facts) == ((1 << 63) - 1, None, None, False, None)
    assert type(one.sold) is type(two.sold) is bool


def test_text_is_ordered_by_its_bytes(store: ControlStore) -> None:
    names = ["", " ", "-", "A", "B", "Z", "_", "a", "a-b", "a_b", "ab", "b", "z", "é", "ﬀ", "\U0001f600"]
    for name in reversed(names):
        add(store, name)
    assert [name for _, name in ids(store)] == names
    beyond = select(ITEMS.c.id).where(ITEMS.c.id > "Z").order_by(ITEMS.c.id)
    assert [row.id for row in store.read(lambda session: session.rows(beyond))] == names[names.index("Z") + 1 :]


@pytest.mark.parametrize("value", ["nul \0", "half \ud800"])
def test_a_text_that_one_engine_cannot_hold_is_refused_by_both(store: ControlStore, value: str) -> None:
    for facts in (value, [value], {"deep": [{value: 1}]}, {"a": {"b": value}}):
        with pytest.raises(Refusal) as refused:
            add(store, "1", facts=facts)
        assert refused.value.code is Code.INVALID_REQUEST
    with pytest.raises(Refusal):
        add(store, value)
    with pytest.raises(Refusal):
        store.read(lambda session: session.rows(select(ITEMS).where(ITEMS.c.id == value)))
    with pytest.raises(Refusal):
        store.read(lambda session: session.rows(select(ITEMS).where(ITEMS.c.id.in_(["x", value]))))
    with pytest.raises(Refusal):
        store.write(lambda session: CARDS.create(session, Card(value), id="1", tenant="a", now_us=1))
    with pytest.raises(Refusal):
        store.write(lambda session: session.note("key", tenant="a", name=value))
    add(store, "1", facts={"said": "\\u0000"})


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, 10**30])
def test_a_number_beyond_64_bits_is_refused_by_both(store: ControlStore, value: int) -> None:
    with pytest.raises(Refusal):
        add(store, "1", price=value)
    with pytest.raises(Refusal):
        store.read(lambda session: session.rows(select(ITEMS).where(ITEMS.c.price > value)))


# Shelves


def test_a_document_lives_through_revisions(store: ControlStore) -> None:
    card = Card("first", tags=("x", "é"), rank=3, seal=b"\x00\xff")
    made = store.write(lambda session: CARDS.create(session, card, id="c", tenant="a", now_us=10))
    assert made == Shelved(id="c", tenant="a", etag=1, created_us=10, updated_us=10, document=card)
    assert store.read(lambda session: CARDS.get(session, "c", tenant="a")) == made
    second = store.write(lambda session: CARDS.replace(session, Card("second"), id="c", tenant="a", etag=1, now_us=20))
    assert second == Shelved(id="c", tenant="a", etag=2, created_us=10, updated_us=20, document=Card("second"))
    third = store.write(lambda session: CARDS.replace(session, Card("third"), id="c", tenant="a", etag=None, now_us=30))
    assert store.read(lambda session: CARDS.get(session, "c", tenant="a")) == third
    gone = store.write(lambda session: CARDS.delete(session, id="c", tenant="a", etag=3))
    assert gone == third
    assert store.read(lambda session: CARDS.get(session, "c", tenant="a")) is None


def test_a_stale_or_missing_document_is_refused(store: ControlStore) -> None:
    store.write(lambda session: CARDS.create(session, Card("t"), id="c", tenant="a", now_us=1))
    before = store.version

    def refused(code: Code, name: str, tenant: str, etag: int | None) -> None:
        with pytest.raises(Refusal) as on_replace:
            store.write(lambda session: CARDS.replace(session, Card("n"), id=name, tenant=tenant, etag=etag, now_us=2))
        with pytest.raises(Refusal) as on_delete:
            store.write(lambda session: CARDS.delete(session, id=name, tenant=tenant, etag=etag))
        assert on_replace.value.code is on_delete.value.code is code

    refused(Code.PRECONDITION_FAILED, "c", "a", 2)
    refused(Code.PRECONDITION_FAILED, "c", "a", 1 << 70)
    refused(Code.NOT_FOUND, "d", "a", 1)
    refused(Code.NOT_FOUND, "c", "b", None)
    with pytest.raises(StorageConflict):
        store.write(lambda session: CARDS.create(session, Card("u"), id="c", tenant="a", now_us=1))
    assert store.version == before


def test_an_id_is_taken_within_its_tenant_alone(store: ControlStore) -> None:
    def three(session: Session) -> list[str]:
        for tenant in ("a", "b", ""):
            CARDS.create(session, Card(tenant), id="c", tenant=tenant, now_us=1)
        found = [CARDS.get(session, "c", tenant=tenant) for tenant in ("a", "b", "")]
        return [card.document.title for card in found if card is not None]

    assert store.write(three) == ["a", "b", ""]


def test_a_shelf_of_the_installation_knows_no_tenants(store: ControlStore) -> None:
    sign = store.write(lambda session: SIGNS.create(session, {"b": 1, "a": [1]}, id="s", now_us=1))
    assert (sign.tenant, sign.document) == ("", {"a": [1], "b": 1})
    with pytest.raises(ValueError, match="no tenant"):
        store.write(lambda session: SIGNS.create(session, {}, id="t", tenant="a", now_us=1))
    with pytest.raises(OutOfScope):
        store.read(lambda session: SIGNS.get(session, "s"), scope=A)


def test_pages_together_hold_every_document_once_in_order(store: ControlStore) -> None:
    places = sorted((f"c{number}", tenant) for number in range(4) for tenant in ("a", "b"))

    def fill(session: Session) -> None:
        for name, tenant in reversed(places):
            CARDS.create(session, Card(name), id=name, tenant=tenant, now_us=1)
            if tenant == "a":
                SIGNS.create(session, {}, id=name, now_us=1)

    store.write(fill)

    def page(session: Session, after: tuple[str, str] | None, limit: int) -> tuple[Shelved[Card], ...]:
        return CARDS.page(session, after=after, limit=limit)

    for limit in (1, 3, 8, 9):
        found: list[tuple[str, str]] = []
        while cards := store.read(partial(page, after=found[-1] if found else None, limit=limit)):
            assert len(cards) <= limit
            found += [card.place for card in cards]
        assert found == places
    own = store.read(lambda session: CARDS.page(session, after="c0", limit=2, tenant="b"))
    assert [card.place for card in own] == [("c1", "b"), ("c2", "b")]
    seen = store.read(lambda session: CARDS.page(session, limit=9), scope=B)
    assert [card.place for card in seen] == [place for place in places if place[1] == "b"]
    assert store.read(lambda session: CARDS.page(session, limit=9, tenant="a"), scope=B) == ()
    assert [sign.id for sign in store.read(lambda session: SIGNS.page(session, after="c1", limit=9))] == ["c2", "c3"]


# The scope of a tenant

other = ITEMS.alias("other")
more = ITEMS.alias("more")
sub = select(ITEMS.c.tenant, ITEMS.c.id, ITEMS.c.label).subquery("sub")
cte = select(ITEMS.c.tenant, ITEMS.c.label).cte("cte")
total = select(func.sum(ITEMS.c.price)).scalar_subquery()

QUERIES: dict[str, Executable] = {
    "plain": select(ITEMS),
    "one column": select(ITEMS.c.label),
    "by its tenant": select(ITEMS).where(ITEMS.c.tenant == "b"),
    "or anything": select(ITEMS).where((ITEMS.c.id == "1") | (ITEMS.c.price > 0)),
    "alias": select(other),
    "two aliases": select(other, more).where(other.c.price == more.c.price),
    "itself twice": select(ITEMS.c.label, other.c.label).where(ITEMS.c.id == other.c.id),
    "join": select(ITEMS, ORDERS.c.id).join(ORDERS, ORDERS.c.item == ITEMS.c.id),
    "join to an alias": select(ITEMS.c.label, other.c.label).join(other, ITEMS.c.id == other.c.id),
    "outer join": select(ITEMS.c.label, ORDERS.c.id, ORDERS.c.tenant).outerjoin(ORDERS, ORDERS.c.item == ITEMS.c.id),
    "full join": select(ITEMS.c.label, ORDERS.c.tenant).join(ORDERS, ORDERS.c.item == ITEMS.c.id, full=True),
    "subquery": select(sub),
    "alias of a subquery": select(sub.alias("again")),
    "scalar subquery": select(ITEMS.c.label, total),
    "in": select(ITEMS.c.label).where(ITEMS.c.id.in_(select(ORDERS.c.item))),
    "exists": select(ITEMS.c.label).where(exists().where(ORDERS.c.item == ITEMS.c.id)),
    "not exists": select(ITEMS.c.label).where(~exists().where(ORDERS.c.item == ITEMS.c.id)),
    "cte": select(cte),
    "cte in a cte": select(select(cte.c.label).cte("outer")),
    "cte beside the table": select(cte.c.label, ITEMS.c.price).where(cte.c.label == ITEMS.c.label),
    "union": select(ITEMS.c.label).union_all(select(ORDERS.c.id), select(ORDERS.c.tenant)),
    "except": select(ITEMS.c.label).except_(select(ORDERS.c.id)),
    "union in a subquery": select(select(ITEMS.c.label).union(select(ORDERS.c.tenant)).subquery()),
    "count": select(func.count()).select_from(ITEMS),
    "group": select(ITEMS.c.tenant, func.count(), func.max(ITEMS.c.price)).group_by(ITEMS.c.tenant),
    "window": select(ITEMS.c.label, func.count().over(), func.sum(ITEMS.c.price).over(order_by=ITEMS.c.id)),
    "lateral-like correlation": select(
        ITEMS.c.label, select(func.count()).where(ORDERS.c.item == ITEMS.c.id).scalar_subquery()
    ),
    "distinct, ordered, limited": select(ITEMS.c.label).distinct().order_by(ITEMS.c.label.desc()).limit(9),
    "bound later": select(ITEMS.c.label).where(ITEMS.c.id == bindparam("id", "1")),
}


@pytest.mark.requirement("ID-4", "ST-1")
@pytest.mark.parametrize("name", QUERIES)
def test_a_query_in_the_scope_of_a_tenant_finds_what_it_would_if_that_tenant_were_alone(
    stocked: ControlStore, name: str
) -> None:
    def answers(session: Session) -> list[str]:
        return sorted(str(row) for row in session.rows(QUERIES[name]))

    together = {scope.tenant: stocked.read(answers, scope=scope) for scope in (A, B)}
    nobody = stocked.read(answers, scope=Scope("nobody"))
    for tenant, strangers in (("a", "b"), ("b", "a")):

        def alone(session: Session, strangers: str = strangers) -> list[str]:
            for shop in (ORDERS, ITEMS):
                session.run(delete(shop).where(shop.c.tenant == strangers))
            raise _Enough(answers(session))

        with pytest.raises(_Enough) as enough:
            stocked.write(alone)
        assert together[tenant] == enough.value.args[0]

    def empty(session: Session) -> None:
        for shop in (ORDERS, ITEMS):
            session.run(delete(shop))
        raise _Enough(answers(session))

    with pytest.raises(_Enough) as enough:
        stocked.write(empty)
    assert nobody == enough.value.args[0]


class _Enough(Exception):
    """What a change would have seen; nothing of it stays."""


@pytest.mark.requirement("ID-4")
def test_a_change_in_the_scope_of_a_tenant_changes_that_tenants_rows_alone(stocked: ControlStore) -> None:
    def everything(session: Session) -> tuple[int, int, int, int]:
        return (
            session.run(update(ITEMS).values(price=5)),
            session.run(update(ITEMS).where(ITEMS.c.tenant == "b").values(label="taken")),
            session.run(
                update(ITEMS).where(ITEMS.c.id.in_(select(ORDERS.c.item))).values(label="ordered", price=total)
            ),
            session.run(delete(ORDERS)),
        )

    assert stocked.write(everything, scope=A) == (2, 0, 1, 1)
    rows = stocked.read(lambda session: session.rows(select(ITEMS).order_by(ITEMS.c.tenant, ITEMS.c.id)))
    assert [(row.tenant, row.id, row.price, row.label) for row in rows] == [
        ("a", "1", 10, "ordered"),
        ("a", "2", 5, "a2"),
        ("b", "1", 1000, "b1"),
        ("b", "2", 1000, "b2"),
        ("b", "3", 1000, "b3"),
    ]
    assert stocked.write(lambda session: session.run(delete(ITEMS)), scope=A) == 2
    assert len(ids(stocked)) == 3
    assert stocked.write(lambda session: session.run(update(ITEMS).values(tenant="b", price=3)), scope=B) == 3
    many = insert(ITEMS).values([{"tenant": "a", "id": name, "price": 1} for name in ("7", "8")])
    assert stocked.write(lambda session: session.run(many), scope=A) == 2


def forbidden(engine: str) -> dict[str, Any]:
    dialect = postgresql if engine == "postgres" else sqlite
    upsert: Any = dialect.insert(ITEMS).values(id="1", tenant="a", price=1)
    return {
        "insert for another tenant": insert(ITEMS).values(id="9", tenant="b", price=1),
        "insert for the installation": insert(ITEMS).values(id="9", tenant="", price=1),
        "insert of many, one of them another's": insert(ITEMS).values(
            [{"id": "8", "tenant": "a", "price": 1}, {"id": "9", "tenant": "b", "price": 1}]
        ),
        "insert of a row without names": insert(ITEMS).values(("b", "9", 1)),
        "insert of rows without names": insert(ITEMS).values([("a", "8", 1), ("b", "9", 1)]),
        "insert of nobody's row": insert(ITEMS).values(id="9", price=1),
        "insert of an id that another tenant has": insert(ITEMS).values(id="3", tenant="b", price=1),
        "insert of a computed tenant": insert(ITEMS).values(id="9", tenant=func.lower("A"), price=1),
        "insert under the column itself": insert(ITEMS).values({ITEMS.c.id: "9", ITEMS.c.tenant: "b"}),
        "insert of a query": insert(ITEMS).from_select(
            ["tenant", "id", "price"], select(ITEMS.c.tenant, ITEMS.c.id + "9", ITEMS.c.price)
        ),
        "insert of a query for another tenant": insert(ITEMS).from_select(
            ["tenant", "id", "price"], select(bindparam("t", "b"), ITEMS.c.id + "9", ITEMS.c.price)
        ),
        "giving rows away": update(ITEMS).where(ITEMS.c.id == "2").values(tenant="b", id="9"),
        "giving rows an id that another tenant has": update(ITEMS).where(ITEMS.c.id == "2").values(tenant="b", id="3"),
        "giving rows to a computed tenant": update(ITEMS).values(tenant=func.lower("B")),
        "giving rows away in order": update(ITEMS).ordered_values((ITEMS.c.id, "9"), (ITEMS.c.tenant, "b")),
        "giving rows to the installation": update(ITEMS).where(ITEMS.c.id == "2").values(tenant=""),
        "upsert": upsert.on_conflict_do_update(index_elements=["tenant", "id"], set_={"price": 2}),
        "insert or nothing": upsert.on_conflict_do_nothing(),
        "raw condition": update(ITEMS).where(text("1 = 1")).values(price=1),
        "raw value": update(ITEMS).values(price=literal_column("1")),
        "raw condition of a delete": delete(ITEMS).where(text("1 = 1")),
        "a table of the installation": update(HOUSE).values(worth=1),
        "delete in a table of the installation": delete(HOUSE),
        "insert in a table of the installation": insert(HOUSE).values(name="x", worth=1),
        "value from a table of the installation": update(ITEMS).values(
            price=select(HOUSE.c.worth).limit(1).scalar_subquery()
        ),
    }


@pytest.mark.requirement("ID-4")
@pytest.mark.parametrize("name", forbidden("sqlite"))
def test_a_change_that_would_leave_the_scope_of_its_tenant_is_refused(
    place: Place, stocked: ControlStore, name: str
) -> None:
    before = stocked.version, ids(stocked)
    with pytest.raises(OutOfScope):
        stocked.write(lambda session: session.run(forbidden(place.engine)[name]), scope=A)
    assert (stocked.version, ids(stocked)) == before


RAW: dict[str, Executable] = {
    "text": text("SELECT * FROM items"),
    "text with columns": text("SELECT * FROM items").columns(ITEMS.c.id),
    "text as a subquery": select(text("SELECT id FROM items").columns(ITEMS.c.id).subquery()),
    "text as a column": select(text("id")).select_from(ITEMS),
    "text as a table": select(ITEMS.c.id).select_from(text("items")),
    "text as a condition": select(ITEMS.c.id).where(text("1 = 1")),
    "text in an order": select(ITEMS.c.id).order_by(text("id")),
    "text in a cte": select(text("SELECT id FROM items").columns(ITEMS.c.id).cte("c")),
    "literal column": select(literal_column("tenant")).select_from(ITEMS),
    "unknown table": select(table("items", ITEMS.c.id._copy())),
    "table of the installation": select(HOUSE),
    "table of the installation in a join": select(ITEMS, HOUSE),
    "table of the installation in a subquery": select(ITEMS).where(ITEMS.c.price.in_(select(HOUSE.c.worth))),
    "the version": select(DATA_VERSION),
    "a change in a cte": select(delete(ITEMS).returning(ITEMS.c.id).cte("c")),
    "an insert in a cte": select(insert(ITEMS).values(id="9", tenant="b", price=1).returning(ITEMS.c.id).cte("c")),
    "an update in a cte": select(update(ITEMS).values(price=1).returning(ITEMS.c.id).cte("c")),
}


@pytest.mark.requirement("ID-4")
@pytest.mark.parametrize("name", RAW)
def test_raw_sql_and_tables_of_the_installation_are_out_of_reach_in_the_scope_of_a_tenant(
    stocked: ControlStore, name: str
) -> None:
    with pytest.raises(OutOfScope):
        stocked.read(lambda session: session.rows(RAW[name]), scope=A)
    with pytest.raises(OutOfScope):
        stocked.write(lambda session: session.row(RAW[name]), scope=A)


def test_a_statement_prepared_in_one_scope_is_not_that_ones_in_another(stocked: ControlStore) -> None:
    query = select(ITEMS.c.label).order_by(ITEMS.c.label)
    for _ in range(3):
        for scope, found in ((A, ["a1", "a2"]), (B, ["b1", "b2", "b3"]), (EVERYWHERE, ["a1", "a2", "b1", "b2", "b3"])):
            assert [row.label for row in stocked.read(lambda s: s.rows(query), scope=scope)] == found


def test_no_tenant_is_called_like_everybody_or_nobody() -> None:
    for name in ("", "*"):
        with pytest.raises(ValueError, match="no tenant"):
            Scope(name)


def test_the_tables_of_this_contract_are_of_both_sorts() -> None:
    assert {table.info["tenant_scoped"] for table in SHOPS.tables.values()} == {True, False}
