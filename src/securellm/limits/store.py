"""The table of limits that are not declared in the file: each a document in the file's words."""

from typing import Any

from securellm.storage import Shelf

LIMITS: Shelf[dict[str, Any]] = Shelf("limits", dict[str, Any], kind="limits", tenant_scoped=True)
