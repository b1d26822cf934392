"""Lists: one page of them, and the cursor that goes on with the same list."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from securellm.admin.calls import Call, scope_of
from securellm.admin.shapes import Listed
from securellm.storage import Session

T = TypeVar("T")


async def page_of(
    call: Call,
    asked: Listed,
    find: Callable[[Session, str | None, int], tuple[T, ...]],
    *,
    key: Callable[[T], str],
    tenant: str | None = None,
    query: Mapping[str, str | None] = MappingProxyType({}),
) -> tuple[tuple[T, ...], str | None]:
    """What `asked` means of a list in the scope of `tenant`, and the cursor that goes on with it; None ends it.

    `find` gives up to so many beyond a key, in the order of keys. `query` is what else decides what the list holds.
    """
    named = {"tenant": tenant, **query}
    after = call.after(asked.cursor, **named)
    found = await call.read(lambda session: find(session, after, asked.limit + 1), scope=scope_of(tenant))
    shown = found[: asked.limit]
    return shown, call.cursor(key(shown[-1]), **named) if len(found) > asked.limit else None
