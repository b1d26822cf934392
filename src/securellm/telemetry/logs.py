"""JSON logs with request and trace ids, redacted by type.

Only values of a few plain types are written; anything else (bytes, exceptions, structures that could carry a
prompt or a secret) is replaced by the name of its type. Content is never passed to a logger at all.
"""

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import msgspec
import structlog

Logger = structlog.stdlib.BoundLogger

_PLAIN = (str, int, float, bool, type(None))
_LONGEST = 512
_MOST = 64


def configure_logs(*, level: str = "info", form: str = "json", stream: TextIO | None = None) -> None:
    """Set the process's logging up once: ours and the server library's, one JSON object a line on stderr."""
    out = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = structlog.processors.JSONRenderer(_json) if form == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            redact_by_type,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Bridge()], level=max(number, logging.WARNING), force=True)


def _json(event: MutableMapping[str, Any], *, default: Callable[[Any], Any]) -> str:
    return msgspec.json.encode(event, enc_hook=default).decode("utf-8")


def logger(name: str) -> Logger:
    """A logger that names the part of the product it speaks for."""
    bound: Logger = structlog.get_logger(component=name)
    return bound


def redact_by_type(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep plain values, bounded; replace everything else by its type's name."""
    error = event.pop("exc_info", None)
    if error:
        # No renderer may find the exception itself: its text, and the values around it, are content.
        kind = type(error) if isinstance(error, BaseException) else sys.exc_info()[0]
        event["exception"] = None if kind is None else kind.__name__
    for key, value in event.items():
        event[key] = _plain(value)
    return event


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        text = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}… ({len(value)} characters)"
        return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list | tuple) and len(value) <= _MOST and all(isinstance(item, _PLAIN) for item in value):
        return [_plain(item) for item in value]
    return value if isinstance(value, _PLAIN) else f"[{type(value).__name__}]"


class _Bridge(logging.Handler):
    """Hand the standard library's records (the server's) to structlog without their arguments' content."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(component=record.name)
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        message = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        log.log(record.levelno, message.splitlines()[0] if message else "", exception=kind)
