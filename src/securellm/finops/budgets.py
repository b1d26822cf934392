"""The table of budgets that are not declared in the file: each a document in the file's words."""

from typing import Any

from securellm.storage import Shelf

BUDGETS: Shelf[dict[str, Any]] = Shelf("budgets", dict[str, Any], kind="budget", tenant_scoped=True)
