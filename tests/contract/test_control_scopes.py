"""Random work in scopes: nobody reaches another tenant's rows, and both engines answer alike."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Select, delete, func, insert, select, update
from tests.contract.shops import CARDS, ITEMS, ORDERS, VISITS, Card, Place, clear, postgres_place, sqlite_place
from tests.postgres import Postgres

from securellm.core.errors import GatewayError
from securellm.storage import EVERYWHERE, ControlStore, Scope, Session, Shelved, StorageConflict

TENANTS = ("a", "b")
Step = tuple[str, tuple[Any, ...]]

_tenants = st.sampled_from([*TENANTS, ""])
_names = st.sampled_from(["1", "2", "Z", "é"])
_numbers = st.integers(-2, 2)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.text(st.characters(codec="utf-8"), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=5,
)
_steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("item"), st.tuples(_tenants, _names, _numbers, _json)),
    st.tuples(st.just("order"), st.tuples(_tenants, _names, _names)),
    st.tuples(st.just("visit"), st.tuples(_tenants, _names)),
    st.tuples(st.just("price"), st.tuples(_names, _numbers)),
    st.tuples(st.just("all prices"), st.tuples(_numbers)),
    st.tuples(st.just("ordered"), st.tuples(_numbers)),
    st.tuples(st.just("give"), st.tuples(_names, _tenants)),
    st.tuples(st.just("drop"), st.tuples(_names)),
    st.tuples(st.just("drop orders"), st.tuples()),
    st.tuples(st.just("items"), st.tuples()),
    st.tuples(st.just("joined"), st.tuples()),
    st.tuples(st.just("counts"), st.tuples()),
    st.tuples(st.just("card"), st.tuples(_tenants, _names, st.text(st.characters(codec="utf-8"), max_size=3))),
    st.tuples(st.just("reprint"), st.tuples(_tenants, _names, st.none() | _numbers)),
    st.tuples(st.just("discard"), st.tuples(_tenants, _names, st.none() | _numbers)),
    st.tuples(st.just("cards"), st.tuples(st.none() | _tenants, st.none() | _names, st.integers(1, 3))),
)


def do(session: Session, word: str, given: tuple[Any, ...]) -> object:
    """One step; what it answers."""
    match word:
        case "item":
            tenant, name, price, facts = given
            return session.run(insert(ITEMS).values(tenant=tenant, id=name, price=price, facts=facts))
        case "order":
            tenant, name, item = given
            return session.run(insert(ORDERS).values(tenant=tenant, id=name, item=item))
        case "visit":
            tenant, name = given
            return session.run(insert(VISITS).values(tenant=tenant, id=name, count=1))
        case "price":
            return session.run(update(ITEMS).where(ITEMS.c.id == given[0]).values(price=given[1]))
        case "all prices":
            (change,) = given
            return session.run(update(ITEMS).values(price=ITEMS.c.price + change))
        case "ordered":
            ordered = select(func.count()).select_from(ORDERS).scalar_subquery()
            return session.run(update(ITEMS).where(ITEMS.c.id.in_(select(ORDERS.c.item))).values(price=ordered))
        case "give":
            return session.run(update(VISITS).where(VISITS.c.id == given[0]).values(tenant=given[1]))
        case "drop":
            return session.run(delete(ITEMS).where(ITEMS.c.id == given[0]))
        case "drop orders":
            return session.run(delete(ORDERS).where(ORDERS.c.item.not_in(select(ITEMS.c.id).where(ITEMS.c.price > 0))))
        case "items":
            return _plain(session, select(ITEMS).order_by(ITEMS.c.tenant, ITEMS.c.id))
        case "joined":
            joined = select(ITEMS.c.tenant, ITEMS.c.id, ORDERS.c.id).outerjoin(
                ORDERS, (ORDERS.c.item == ITEMS.c.id) & (ORDERS.c.tenant == ITEMS.c.tenant)
            )
            return sorted(_plain(session, joined), key=repr)
        case "counts":
            counts: Select[Any] = select(ITEMS.c.tenant, func.count(), func.sum(ITEMS.c.price)).group_by(ITEMS.c.tenant)
            return [(row[0], row[1], int(row[2])) for row in session.rows(counts.order_by(ITEMS.c.tenant))]
        case "card":
            tenant, name, title = given
            return CARDS.create(session, Card(title), id=name, tenant=tenant, now_us=5)
        case "reprint":
            tenant, name, etag = given
            return CARDS.replace(session, Card("again"), id=name, tenant=tenant, etag=etag, now_us=6)
        case "discard":
            tenant, name, etag = given
            return CARDS.delete(session, id=name, tenant=tenant, etag=etag)
        case "cards":
            tenant, after, limit = given
            return CARDS.page(session, after=after, limit=limit, tenant=tenant)
    raise AssertionError(word)


def _plain(session: Session, query: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.rows(query)]


def work(store: ControlStore, steps: list[Step], scope: Scope) -> list[object]:
    """Every step in one transaction; the answers, the last of which may be what went wrong."""
    answers: list[object] = []

    def change(session: Session) -> None:
        for step in steps:
            answers.append(do(session, *step))  # noqa: PERF401 - the answers before an error stay

    try:
        store.write(change, scope=scope)
    except StorageConflict as error:
        return [*answers, type(error).__name__]
    except GatewayError as error:
        return [*answers, type(error).__name__, error.code]
    return answers


def holdings(store: ControlStore) -> dict[str, list[tuple[Any, ...]]]:
    """All that each tenant has, seen from everywhere."""

    def look(session: Session) -> dict[str, list[tuple[Any, ...]]]:
        found: dict[str, list[tuple[Any, ...]]] = {tenant: [] for tenant in (*TENANTS, "")}
        for table in (ITEMS, ORDERS, VISITS, CARDS.table):
            for row in session.rows(select(table).order_by(table.c.id)):
                found[row.tenant].append((table.name, *row))
        return found

    return store.read(look)


def tenants_in(answer: object) -> set[str]:
    match answer:
        case Shelved():
            return {answer.tenant}
        case list() | tuple():
            return {row.tenant if isinstance(row, Shelved) else row[0] for row in answer}
    return set()


@pytest.fixture(scope="module")
def both(
    postgres_server: Postgres, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[ControlStore]]:
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server.database(template=postgres_template))
        made: list[tuple[Place, ControlStore]] = [
            stack.enter_context(sqlite_place(tmp_path_factory.mktemp("control"))),
            stack.enter_context(postgres_place(database)),
        ]
        yield [store for _, store in made]


_transactions = st.lists(
    st.tuples(st.lists(_steps, min_size=1, max_size=4), st.sampled_from([Scope("a"), Scope("b"), EVERYWHERE])),
    max_size=5,
)


@pytest.mark.requirement("ID-4", "ST-1")
@given(transactions=_transactions)
def test_work_in_the_scope_of_one_tenant_never_shows_or_touches_anothers_rows_and_engines_agree(
    both: list[ControlStore], transactions: list[tuple[list[Step], Scope]]
) -> None:
    starts = []
    for store in both:
        clear(store)
        starts.append(store.version)
    for steps, scope in transactions:
        outcomes = []
        for store, start in zip(both, starts, strict=True):
            before = holdings(store)
            answers = work(store, steps, scope)
            after = holdings(store)
            if scope.tenant is not None:
                assert [name for name in after if after[name] != before[name]] in ([], [scope.tenant])
                assert set().union(*(tenants_in(answer) for answer in answers)) <= {scope.tenant}
            changes = store.changes(start)
            told = [(change.version - start, change.kind, change.tenant, change.name) for change in changes.items]
            outcomes.append((answers, changes.version - start, changes.complete, told, after))
        assert outcomes[0] == outcomes[1]
