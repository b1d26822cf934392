"""The real application inside the test's own process, spoken to through its ASGI face."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from tests.harness import Site, free_ports

from securellm.audit import verify
from securellm.bootstrap.config import load_config
from securellm.bootstrap.journaling import JOURNAL_SCHEMA, journal_observers
from securellm.bootstrap.wiring import Application
from securellm.core.clock import SystemClock
from securellm.core.randomness import SystemRandomness
from securellm.core.surfaces import Surface
from securellm.ingress.kept import PATHS
from securellm.ingress.routes import ROUTES
from securellm.providers import KINDS

_MESSAGES = [{"role": "user", "content": "hello"}]
_CONTENT = {"role": "user", "parts": [{"text": "hello"}]}

BODIES: Mapping[Surface, dict[str, Any]] = {
    Surface.CHAT: {"messages": _MESSAGES, "max_tokens": 5, "temperature": 0},
    Surface.RESPONSES: {"input": "hello", "max_output_tokens": 16, "temperature": 0},
    Surface.MESSAGES: {"messages": _MESSAGES, "max_tokens": 5, "temperature": 0},
    Surface.MESSAGE_TOKENS: {"messages": _MESSAGES},
    Surface.EMBEDDINGS: {"input": "hello"},
    Surface.RERANK: {"query": "hello", "documents": ["hello", "goodbye"]},
    Surface.MODERATIONS: {"input": "hello"},
    Surface.IMAGES: {"prompt": "hello"},
    Surface.IMAGE_EDITS: {"prompt": "hello"},
    Surface.SPEECH: {"input": "hello", "voice": "alloy"},
    Surface.TRANSCRIPTIONS: {},
    Surface.AUDIO_TRANSLATIONS: {},
    Surface.GENERATE_CONTENT: {"contents": [_CONTENT], "generationConfig": {"maxOutputTokens": 5, "temperature": 0}},
    Surface.CONTENT_TOKENS: {"contents": [_CONTENT]},
    Surface.EMBED_CONTENT: {"content": _CONTENT},
    Surface.BATCH_EMBED_CONTENTS: {"requests": [{"model": "models/{model}", "content": _CONTENT}]},
    Surface.OLLAMA_CHAT: {"messages": _MESSAGES, "stream": False, "options": {"num_predict": 5, "temperature": 0}},
    Surface.OLLAMA_GENERATE: {"prompt": "hello", "stream": False, "options": {"num_predict": 5, "temperature": 0}},
    Surface.OLLAMA_EMBED: {"input": "hello"},
}
"""A good request for every governed surface, but for the model; each may be answered from the cache if any may."""

FILES: Mapping[Surface, tuple[str, str, bytes]] = {
    Surface.IMAGE_EDITS: ("image", "image/png", b"\x89PNG\r\n\x1a\n"),
    Surface.TRANSCRIPTIONS: ("file", "audio/wav", b"RIFF"),
    Surface.AUDIO_TRANSLATIONS: ("file", "audio/wav", b"RIFF"),
}
"""The field, type and bytes of the file, of the surfaces whose body is a form."""
STREAMED_BY_BODY = frozenset(
    {Surface.CHAT, Surface.RESPONSES, Surface.MESSAGES, Surface.OLLAMA_CHAT, Surface.OLLAMA_GENERATE}
)
_BOUNDARY = "the-boundary"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A good request for a governed path."""

    template: str
    surface: Surface
    stream: bool
    path: str
    query: str
    content_type: str
    body: bytes
    method: str = "POST"
    errand: str = ""
    """Its name, where no model is asked."""


def every_request(model: Callable[[Surface], str]) -> Iterator[Asked]:
    """One for each path that the live router lists, streamed and not where its body can say so."""
    for route in ROUTES.values():
        streams = (False, True) if route.surface in STREAMED_BY_BODY else (route.alt == "sse",)
        for stream in streams:
            name = model(route.surface)
            fields = dict(BODIES[route.surface])
            if "{model}" not in route.template:
                fields["model"] = name
            if route.surface in STREAMED_BY_BODY:
                fields["stream"] = stream
            yield Asked(
                template=route.template,
                surface=route.surface,
                stream=stream,
                path=route.path(name),
                query=route.query,
                content_type=f"multipart/form-data; boundary={_BOUNDARY}" if route.form else "application/json",
                body=form(fields, FILES[route.surface])
                if route.form
                else json.dumps(fields).replace("{model}", name).encode("utf-8"),
            )


KEPT_BODIES: Mapping[str, dict[str, Any]] = {
    "conversations.create": {"items": _MESSAGES, "metadata": {"about": "hello"}},
    "conversations.update": {"metadata": {"about": "goodbye"}},
    "conversations.items.create": {"items": _MESSAGES},
    "files.create": {"purpose": "batch"},
    "batches.create": {
        "input_file_id": "file_id",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"about": "hello"},
    },
}
"""A good body for every errand that takes one."""


def line_for(model: str = "chat") -> dict[str, Any]:
    """A line of a good file for a batch."""
    body = {"model": model, **BODIES[Surface.CHAT]}
    return {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": body}


def _many(model: Callable[[Surface], str]) -> dict[str, dict[str, Any]]:
    """The body that itself names models."""
    params = {"model": model(Surface.MESSAGES), **BODIES[Surface.MESSAGES]}
    return {"message_batches.create": {"requests": [{"custom_id": "one", "params": params}]}}


def every_errand(model: Callable[[Surface], str] = lambda surface: surface.value) -> Iterator[Asked]:
    """One for each method of each path to what providers keep; the things are called as the path calls them.

    Lists are left out: they are made of requests for each thing on them.
    """
    for template, rows in PATHS.items():
        for method, row in rows.items():
            if row.errand.lists is not None:
                continue
            formed = row.errand.takes == "form"
            fields = {**KEPT_BODIES, **_many(model)}[row.errand.name] if row.errand.takes != "nothing" else None
            whole = b"" if fields is None else json.dumps(fields).encode()
            file = ("file", "application/jsonl", json.dumps(line_for(model(Surface.CHAT))).encode())
            yield Asked(
                template=template,
                surface=row.errand.surface,
                stream=False,
                path=template.replace("{", "").replace("}", ""),
                query="",
                content_type=f"multipart/form-data; boundary={_BOUNDARY}" if formed else "application/json",
                body=form(fields or {}, file) if formed else whole,
                method=method,
                errand=row.errand.name,
            )


FORM = f"multipart/form-data; boundary={_BOUNDARY}"


def form(fields: Mapping[str, str], file: tuple[str, str, bytes], *, filename: str = "a") -> bytes:
    """A multipart form with one file (RFC 7578)."""
    name, content_type, data = file
    parts = [f'name="{field}"\r\n\r\n{value}'.encode() for field, value in fields.items()]
    parts.append(f'name="{name}"; filename="{filename}"\r\ncontent-type: {content_type}\r\n\r\n'.encode() + data)
    opening = f"--{_BOUNDARY}\r\ncontent-disposition: form-data; ".encode()
    return b"".join(opening + part + b"\r\n" for part in parts) + f"--{_BOUNDARY}--\r\n".encode()


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def application(directory: Path, site: Site) -> Iterator[Application]:
    """Open it on a data folder below `directory`; at the end its audit must verify."""
    port, admin_port = free_ports(2)
    path = directory / "securellm.toml"
    data = directory / "data"
    path.write_text(site.toml(data_dir=data, port=port, admin_port=admin_port), encoding="utf-8")
    loaded = load_config(path, environ=site.environ, provider_kinds=KINDS)
    opened = Application(loaded, clock=SystemClock(), randomness=SystemRandomness())
    try:
        yield opened
    finally:
        opened.close()
    report = verify(data / "audit.db", schema=JOURNAL_SCHEMA, observers=journal_observers())
    assert report.intact, report.problems


async def send(app: Application, asked: Asked, *, key: str) -> Answer:
    """One request, whole."""
    raw = asked.body
    sent: list[dict[str, Any]] = []
    received = False
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        nonlocal received
        if not received:
            received = True
            return {"type": "http.request", "body": raw, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def take(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": asked.method,
        "path": asked.path,
        "raw_path": asked.path.encode("ascii"),
        "query_string": asked.query.encode("ascii"),
        "headers": [
            (b"host", b"localhost"),
            (b"authorization", f"Bearer {key}".encode("ascii")),
            (b"content-type", asked.content_type.encode("ascii")),
        ],
        "client": ("127.0.0.1", 50_000),
    }
    async with asyncio.timeout(30):
        await app.ingress(scope, receive, take)
    return Answer(
        status=sent[0]["status"],
        headers={name.decode("ascii"): value.decode("latin-1") for name, value in sent[0]["headers"]},
        body=b"".join(message.get("body", b"") for message in sent[1:]),
    )
