"""What each route asks of its caller, written on the route itself; a route that says nothing is not served."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from securellm.identity import Permission

Purpose = Literal["setup", "invitation"]
API_ROOT = "/admin/v1"
SETUP = f"{API_ROOT}/setup"
ACCEPT = f"{API_ROOT}/invitations/accept"
ONE_TIME_PATHS: Mapping[str, Purpose] = {SETUP: "setup", ACCEPT: "invitation"}
"""What a secret that is used up by it opens, and nothing else does."""

PUBLIC = "public"
ONE_TIME = "one-time"

Of = Literal["installation", "tenant", "self", "nobody"]
"""Whose the thing is: the installation's, some tenant's (only the handler learns which), the caller's own, no one's."""

_MEMBER = "x-permission"
_OF = "x-belongs-to"
BROWSER_PATHS = frozenset({f"{API_ROOT}/login", f"{API_ROOT}/login/callback"})
"""What a browser opens before anybody is signed in."""


class UndeclaredPermission(Exception):
    """A route says not, or not plainly, who may call it."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What one route asks for."""

    permission: Permission | None
    """None is nothing at all: probes, scrapers and the way in."""
    of: Of
    precondition: bool = False
    """A change of what exists: `If-Match` must say which version it is based on."""
    precondition_optional: bool = False
    """It may say so."""
    once_shown: bool = False
    """The answer shows a secret: it is given once and never kept."""
    four_eyes: bool = False
    """It takes two people, or one who breaks the glass on the host."""


def asks(
    permission: Permission,
    *,
    of: Of,
    precondition: bool = False,
    precondition_optional: bool = False,
    once_shown: bool = False,
    four_eyes: bool = False,
) -> dict[str, Any]:
    """The `openapi_extra` that declares what a route asks for, to us and to readers of the schema."""
    ask = Ask(
        permission=permission,
        of=of,
        precondition=precondition,
        precondition_optional=precondition_optional,
        once_shown=once_shown,
        four_eyes=four_eyes,
    )
    return {_MEMBER: permission.value, _OF: of, **dict(_flags(ask))}


def asks_nothing() -> dict[str, Any]:
    """The `openapi_extra` of a route that anybody may call."""
    return {_MEMBER: PUBLIC, _OF: "nobody", "security": []}


def asks_one_time() -> dict[str, Any]:
    """The `openapi_extra` of a route that a one-time secret opens, by its path."""
    return {_MEMBER: ONE_TIME, _OF: "nobody", "security": [{"one_time": []}]}


def ask_of(route: BaseRoute) -> Ask:
    """What `route` asks for. Raises `UndeclaredPermission`."""
    path = getattr(route, "path", "a mounted application")
    if not isinstance(route, APIRoute):
        raise UndeclaredPermission(f"{path} is not a plain route and can declare no permission")
    said = route.openapi_extra or {}
    declared, of = said.get(_MEMBER), said.get(_OF)
    if declared == PUBLIC or (declared == ONE_TIME and path in ONE_TIME_PATHS):
        return Ask(permission=None, of="nobody")
    if declared not in frozenset(Permission) or of not in ("installation", "tenant", "self", "nobody"):
        raise UndeclaredPermission(f"{path} declares no permission")
    return Ask(
        permission=Permission(declared),
        of=of,
        **{name: said.get(f"x-{name.replace('_', '-')}", False) for name in _FLAGS},
    )


def public_paths(routes: Sequence[BaseRoute]) -> frozenset[str]:
    """The exact paths that need no credential: every other one does, served or not.

    Raises `UndeclaredPermission` for a route that declares no permission, and for a public one that is part of
    the API, takes parameters or shares its path with a guarded one.
    """
    public: set[str] = set()
    guarded: set[str] = set()
    for route in routes:
        ask = ask_of(route)
        (public if ask.permission is None else guarded).add(getattr(route, "path", ""))
    for path in public:
        in_api = path == API_ROOT or path.startswith(f"{API_ROOT}/")
        if path in guarded or "{" in path or (in_api and path not in BROWSER_PATHS and path not in ONE_TIME_PATHS):
            raise UndeclaredPermission(f"{path} cannot be public")
    return frozenset(public.difference(ONE_TIME_PATHS))


_FLAGS = ("precondition", "precondition_optional", "once_shown", "four_eyes")


def _flags(ask: Ask) -> Iterator[tuple[str, bool]]:
    for name in _FLAGS:
        if getattr(ask, name):
            yield f"x-{name.replace('_', '-')}", True
