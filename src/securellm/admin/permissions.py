"""Which permission each route asks for; a route that declares none is not served."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

API_ROOT = "/admin/v1"

_MEMBER = "x-permission"


class Permission(StrEnum):
    PUBLIC = "public"
    """No credential: probes and scrapers on the admin listener."""
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    SCHEMA_READ = "schema:read"


class UndeclaredPermission(Exception):
    """A route says not, or not plainly, who may call it."""


def asks(permission: Permission) -> dict[str, Any]:
    """The `openapi_extra` that declares a route's permission, to us and to readers of the schema."""
    if permission is Permission.PUBLIC:
        return {_MEMBER: permission.value, "security": []}
    return {_MEMBER: permission.value}


def public_paths(routes: Sequence[BaseRoute]) -> frozenset[str]:
    """The exact paths that need no credential: every other one does, served or not.

    Raises `UndeclaredPermission` for a route that declares no permission, and for a public one that is part of
    the API, takes parameters or shares its path with a guarded one.
    """
    public: set[str] = set()
    guarded: set[str] = set()
    for route in routes:
        path = getattr(route, "path", "a mounted application")
        if not isinstance(route, APIRoute):
            raise UndeclaredPermission(f"{path} is not a plain route and can declare no permission")
        declared = (route.openapi_extra or {}).get(_MEMBER)
        if declared not in frozenset(Permission):
            raise UndeclaredPermission(f"{path} declares no permission")
        (public if declared == Permission.PUBLIC else guarded).add(path)
    for path in public:
        if path in guarded or "{" in path or path == API_ROOT or path.startswith(f"{API_ROOT}/"):
            raise UndeclaredPermission(f"{path} cannot be public")
    return frozenset(public)
