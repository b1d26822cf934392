"""The table of providers that are not declared in the file: each a document in the file's words."""

from typing import Any

from securellm.storage import Shelf

PROVIDERS: Shelf[dict[str, Any]] = Shelf("providers", dict[str, Any], kind="provider", tenant_scoped=False)
