"""The table of tenants that are not declared in the file: each a document in the file's words."""

from typing import Any

from securellm.storage import Shelf

TENANTS: Shelf[dict[str, Any]] = Shelf("tenants", dict[str, Any], kind="tenant", tenant_scoped=False)
