"""A file, and what may be stored beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from securellm.bootstrap.config import Loaded, load_config
from securellm.bootstrap.effective import Document, Effective, Kind, Name, compose, name_of
from securellm.finops import shipped
from securellm.providers.registry import KINDS

BOOK = shipped()
FILE = """\
mode = "test"

[[providers]]
id = "near"
kind = "mock"
limits = { requests_per_minute = 600, burst = 60 }

[[models]]
name = "small"
route = [{ provider = "near", model = "small" }]

[[tenants]]
id = "acme"
budget = { month = "10.00 USD", hard = true }

[[tenants]]
id = "plain"

[[keys]]
tenant = "acme"
secret = "env:ACME_KEY"
models = ["*"]
"""
SECRETS = {"ACME_KEY": "a-virtual-key-of-the-file-0123", "THEIR_API_KEY": "sk-of-a-provider"}

PROVIDER: Document = {"id": "far", "kind": "openai", "credential": "env:THEIR_API_KEY"}
MODEL: Document = {
    "name": "big",
    "route": [{"provider": "far", "model": "gpt-4o"}, {"provider": "near", "model": "small"}],
}
TENANT: Document = {"id": "globex", "models": ["big"], "guard": "strict", "stale_policy_fence": "2s"}
BUDGET: Document = {"scope": "tenant", "target": "plain", "month": "5.00 USD"}
LIMITS: Document = {"scope": "tenant", "target": "plain", "requests_per_minute": 60}
KEY_LIMITS: Document = {"scope": "key", "target": "key_1", "parallel": 2}


def loaded(folder: Path, text: str = FILE, *, environ: Mapping[str, str] = SECRETS) -> Loaded:
    path = folder / "securellm.toml"
    path.write_text(text)
    return load_config(path, environ=environ, provider_kinds=KINDS, book=BOOK)


def stored(*rows: tuple[Kind, str, Document]) -> dict[Name, Document]:
    return {name_of(kind, document, tenant=tenant): document for kind, tenant, document in rows}


ALL: tuple[tuple[Kind, str, Document], ...] = (
    ("provider", "", PROVIDER),
    ("model", "", MODEL),
    ("tenant", "", TENANT),
    ("budget", "plain", BUDGET),
    ("limits", "plain", LIMITS),
    ("limits", "plain", KEY_LIMITS),
)


def whole(folder: Path, *rows: tuple[Kind, str, Document], **how: Any) -> Effective:
    return compose(loaded(folder, **how), stored(*(rows or ALL)), book=BOOK)
