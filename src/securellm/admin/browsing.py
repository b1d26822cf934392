"""A problem as a page, for the browser of somebody who was logging in: no script, no style, nothing loaded."""

import re
from collections.abc import Mapping
from html import escape
from typing import Literal

from starlette.responses import HTMLResponse

Language = Literal["en", "pt-BR"]

_LONGEST_PREFERENCE = 500

PAGE_HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
"""Of every page of ours."""

_WORDS: Mapping[Language, tuple[str, str, str, str, str]] = {
    "en": ("You are not signed in", "Reason", "What to do", "Code", "Request"),
    "pt-BR": ("O acesso não foi concluído", "Motivo", "O que fazer", "Código", "Requisição"),
}
_PAGE = """<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"></head><body><h1>{title}</h1><dl>{rows}</dl></body></html>
"""


class ProblemPage(HTMLResponse):
    """What a person reads of a problem; `reason` and `remedy` are in their language."""

    def __init__(
        self, *, code: str, reason: str, remedy: str, request_id: str, language: Language, status: int
    ) -> None:
        title, *labels = _WORDS[language]
        said = zip(labels, (reason, remedy, code, request_id), strict=True)
        rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in said)
        super().__init__(_PAGE.format(language=language, title=escape(title), rows=rows), status, dict(PAGE_HEADERS))


def prefers_page(accept: str | None) -> bool:
    """Whether `Accept` names HTML, and JSON not before it, as a browser's does and a program's does not."""
    wanted: dict[str, float] = {}
    for item in (accept or "")[:_LONGEST_PREFERENCE].split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weights = [quality_of(part) for part in parameters if part.startswith("q=")]
        wanted[name] = weights[0] if weights else 1.0
    json = max(wanted.get("application/json", 0.0), wanted.get("application/problem+json", 0.0))
    return wanted.get("text/html", 0.0) > json


def quality_of(weight: str) -> float:
    """Of `q=0.8`, 0.8; of what is not written like this, 0.0."""
    found = re.fullmatch(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", weight, re.ASCII)
    return float(found.group(1)) if found else 0.0
