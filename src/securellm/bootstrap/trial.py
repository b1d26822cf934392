"""One governed call, without a listener: for staging, before a gateway is let near its users."""

import json
from typing import Any, NamedTuple

import msgspec

from securellm.bootstrap.wiring import Application
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.gateway.snapshot import Snapshot
from securellm.ingress.exchange import RawHeaders
from securellm.ingress.routes import MODEL, ROUTES

_PROMPT = "Answer with the single word: ready"
_CAP = 64
"""Output tokens: enough for one word, and for a model that thinks a little first."""

_MESSAGES = [{"role": "user", "content": _PROMPT}]
_CONTENTS = [{"role": "user", "parts": [{"text": _PROMPT}]}]

BODIES: dict[Surface, dict[str, Any]] = {
    Surface.CHAT: {"model": MODEL, "messages": _MESSAGES, "max_tokens": _CAP},
    Surface.RESPONSES: {"model": MODEL, "input": _PROMPT, "max_output_tokens": _CAP},
    Surface.MESSAGES: {"model": MODEL, "messages": _MESSAGES, "max_tokens": _CAP},
    Surface.GENERATE_CONTENT: {"contents": _CONTENTS, "generationConfig": {"maxOutputTokens": _CAP}},
    Surface.OLLAMA_CHAT: {"model": MODEL, "messages": _MESSAGES, "stream": False, "options": {"num_predict": _CAP}},
    Surface.OLLAMA_GENERATE: {"model": MODEL, "prompt": _PROMPT, "stream": False, "options": {"num_predict": _CAP}},
    Surface.EMBEDDINGS: {"model": MODEL, "input": _PROMPT},
    Surface.EMBED_CONTENT: {"content": _CONTENTS[0]},
    Surface.BATCH_EMBED_CONTENTS: {"requests": [{"model": f"models/{MODEL}", "content": _CONTENTS[0]}]},
    Surface.OLLAMA_EMBED: {"model": MODEL, "input": _PROMPT},
    Surface.RERANK: {"model": MODEL, "query": _PROMPT, "documents": ["ready", "not ready"]},
    Surface.MESSAGE_TOKENS: {"model": MODEL, "messages": _MESSAGES},
    Surface.CONTENT_TOKENS: {"contents": _CONTENTS},
    Surface.MODERATIONS: {"model": MODEL, "input": _PROMPT},
}
"""The smallest request of each surface that can be tried, in the order of preference. Pictures and sound cannot."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the call."""

    provider: str
    model: str
    surface: Surface
    status: int
    headers: dict[str, str]
    body: bytes


class _Exchange:
    """An exchange with nobody at the other end but us."""

    def __init__(self, path: str, query: str, headers: RawHeaders, body: bytes) -> None:
        self.method = "POST"
        self.path = path
        self.query = query
        self.headers = headers
        self.peer = ""
        self.status = 0
        self.answered: RawHeaders = []
        self.written = b""
        self._body = body

    async def body(self, *, limit: int, seconds: float) -> bytes:  # noqa: ARG002 - it is our own
        return self._body

    async def discard(self) -> bool:
        return True

    def when_gone(self, act: object) -> Any:  # noqa: ARG002 - we stay
        return lambda: None

    async def answer(self, status: int, headers: RawHeaders, body: bytes) -> None:
        self.status, self.answered, self.written = status, headers, body

    async def head(self, status: int, headers: RawHeaders) -> None:
        self.status, self.answered = status, headers

    async def write(self, data: bytes, *, last: bool) -> None:  # noqa: ARG002 - one signature for all
        self.written += data


async def try_provider(
    application: Application, provider: str, *, model: str | None = None, surface: Surface | None = None
) -> Trial:
    """Send one small request to `provider` through every gate, as a tenant that may, with a key revoked afterwards.

    `model` and `surface` narrow down which of its routes is tried; otherwise it is the first.
    Raises Refusal (NOT_FOUND, NO_ROUTE) when there is none.
    """
    snapshot = application.gates.snapshots.read()
    if provider not in snapshot.provider_rates:
        raise Refusal(Code.NOT_FOUND, f"no provider is called {provider}")
    way = _way_to(snapshot, provider, model, surface)
    keyring, control = application.keyring, application.control
    issued = control.write(
        lambda session: keyring.issue(
            session, tenant=way.tenant, name="provider test", models=(way.model,), surfaces=(way.surface,)
        ),
        before_commit=lambda issued: application.note_key("create", issued.key, actor="provider test"),
    )
    try:
        await application.refresh()
        route = next(route for route in ROUTES.values() if route.surface is way.surface)
        body = json.dumps(BODIES[way.surface]).replace(MODEL, way.model).encode("utf-8")
        headers: RawHeaders = [
            (b"authorization", f"Bearer {issued.token}".encode("ascii")),
            (b"content-type", b"application/json"),
            (b"x-provider", provider.encode("ascii")),
            (b"x-securellm-cache", b"no-store"),
        ]
        exchange = _Exchange(route.path(way.model), route.query, headers, body)
        await application.ingress.serve(exchange)
    finally:
        control.write(
            lambda session: keyring.revoke(session, issued.key.id),
            before_commit=lambda revoked: application.note_key("revoke", revoked, actor="provider test"),
        )
        await application.drain()
    answered = {name.decode("ascii"): value.decode("latin-1") for name, value in exchange.answered}
    return Trial(
        provider=provider,
        model=way.model,
        surface=way.surface,
        status=exchange.status,
        headers=answered,
        body=exchange.written,
    )


class _Way(NamedTuple):
    tenant: str
    model: str
    surface: Surface


def _way_to(snapshot: Snapshot, provider: str, wanted_model: str | None, wanted: Surface | None) -> _Way:
    for tenant in snapshot.tenants.values():
        for model in snapshot.models.values():
            if model.name not in tenant.models or wanted_model not in (None, model.name):
                continue
            for candidate in model.candidates:
                surfaces = [each for each in BODIES if each in candidate.surfaces and wanted in (None, each)]
                if candidate.provider == provider and surfaces:
                    return _Way(tenant.id, model.name, surfaces[0])
    raise Refusal(Code.NO_ROUTE, f"no tenant may use such a model that is served from {provider}")
