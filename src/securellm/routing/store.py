"""The table of models that are not declared in the file: each a document in the file's words."""

from typing import Any

from securellm.storage import Shelf

MODELS: Shelf[dict[str, Any]] = Shelf("models", dict[str, Any], kind="model", tenant_scoped=False)
