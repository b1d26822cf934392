"""Files of OpenAI and Anthropic: uploaded, listed, read, deleted."""

import mimetypes
import time
from datetime import UTC, datetime
from typing import Any

from tests.upstream.answer import Answer, Ask, page_size
from tests.upstream.faces import Refused
from tests.upstream.memory import File
from tests.upstream.messages_check import check_version
from tests.upstream.speech import write

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_BETA = "files-api-2025-04-14"


def upload(ask: Ask) -> Answer:
    """Keep a file."""
    if ask.face == "anthropic":
        _check_version(ask)
    if "file" not in ask.form.files:
        raise Refused(400, "Missing required parameter: 'file'.", param="file")
    name, content = ask.form.files["file"]
    purpose = ask.form.get("purpose")
    if ask.face != "anthropic" and purpose not in _PURPOSES:
        raise Refused(400, f"'{purpose}' is not one of {list(_PURPOSES)} - 'purpose'", param="purpose")
    return Answer(body=write(keep(ask, name, content, purpose=str(purpose)).value))


def keep(ask: Ask, name: str, content: bytes, *, purpose: str) -> File:
    """Add a file to what the provider remembers."""
    value: dict[str, Any]
    if ask.face == "anthropic":
        value = {
            "id": f"file_fake{ask.number:08d}",
            "type": "file",
            "filename": name,
            "mime_type": mimetypes.guess_type(name)[0] or "application/octet-stream",
            "size_bytes": len(content),
            "created_at": datetime.now(UTC).isoformat(),
            "downloadable": False,
        }
    else:
        value = {
            "id": f"file-fake{ask.number:08d}x{len(ask.memory.files)}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "expires_at": None,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
        }
    file = File(value=value, content=content)
    ask.memory.files[value["id"]] = file
    return file


def listed(ask: Ask) -> Answer:
    """Every file, newest first, page by page."""
    if ask.face == "anthropic":
        _check_version(ask)
    rows = [file.value for file in reversed(ask.memory.files.values())]
    if ask.query.get("purpose"):
        rows = [row for row in rows if row.get("purpose") == ask.query["purpose"]]
    return Answer(body=write(page(ask, rows)))


def page(ask: Ask, rows: list[dict[str, Any]]) -> dict[str, object]:
    """The rows after the one a client has seen, in the provider's list."""
    names = [row["id"] for row in rows]
    after = ask.query.get("after_id" if ask.face == "anthropic" else "after")
    start = names.index(after) + 1 if after in names else 0
    size = page_size(ask, most=10_000)
    shown = rows[start : start + size]
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    value: dict[str, object] = {"data": shown, **ends, "has_more": start + size < len(rows)}
    return value if ask.face == "anthropic" else {"object": "list", **value}


def get(ask: Ask) -> Answer:
    """What is known of a file."""
    return Answer(body=write(_file(ask).value))


def content(ask: Ask) -> Answer:
    """A file's bytes. Anthropic gives back only what it made itself."""
    file = _file(ask)
    if ask.face == "anthropic":
        raise Refused(400, "File is not downloadable.")
    return Answer(headers=(("content-type", "application/octet-stream"),), body=file.content)


def delete(ask: Ask) -> Answer:
    """Forget a file."""
    name = _file(ask).value["id"]
    del ask.memory.files[name]
    if ask.face == "anthropic":
        return Answer(body=write({"id": name, "type": "file_deleted"}))
    return Answer(body=write({"id": name, "object": "file", "deleted": True}))


def _file(ask: Ask) -> File:
    if ask.face == "anthropic":
        _check_version(ask)
    file = ask.memory.files.get(ask.place["id"])
    if file is None and ask.face == "anthropic":
        raise Refused(404, f"File not found: {ask.place['id']}")
    if file is None:
        raise Refused(404, f"No such File object: {ask.place['id']}", param="id")
    return file


def _check_version(ask: Ask) -> None:
    """The older version has files as a beta only."""
    if check_version(ask) == "2023-06-01" and _BETA not in (ask.header("anthropic-beta") or ""):
        raise Refused(404, "Not found")
