"""JSON logs with request and trace ids, redacted by type.

Only values of a few plain types are written; anything else (bytes, exceptions, structures that could carry a
prompt or a secret) is replaced by the name of its type. Content is never passed to a logger at all. A secret that
somebody else repeats, such as a provider in its error, is masked by its value.
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any, TextIO, cast

import msgspec
import structlog

Logger = structlog.stdlib.BoundLogger

_PLAIN = (str, int, float, bool, type(None))
_LONGEST = 512
_MOST = 64
_SHORTEST_CONCEALED = 8
"""Anything shorter is found in honest text."""
_MOST_CONCEALED = 1_000
"""Each costs a look at every line."""

_setup = object()
"""Another one each time that logging is set up."""
_LOCK = threading.Lock()
_concealed: tuple[str, ...] = ()
"""Every secret of this process that no line may show, the newest last."""


def configure_logs(*, level: str = "info", form: str = "json", stream: TextIO | None = None) -> None:
    """Set the process's logging up once: ours and the server library's, one JSON object a line on stderr."""
    out = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = structlog.processors.JSONRenderer(_json) if form == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
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
    global _setup  # noqa: PLW0603 - every logger looks whether it is still the one it was bound for
    _setup = object()


def _json(event: MutableMapping[str, Any], *, default: Callable[[Any], Any]) -> str:
    return msgspec.json.encode(event, enc_hook=default).decode("utf-8")


def logger(name: str) -> Logger:
    """A logger that names the part of the product it speaks for."""
    return cast(Logger, _Named(name))


class _Named:
    """A logger that is bound once for each way in which logging is set up, where structlog's own is for each line."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bound: Logger | None = None
        self._bound_for: object = None

    def __getattr__(self, method: str) -> Any:
        if self._bound is None or self._bound_for is not _setup:
            self._bound = structlog.get_logger(component=self._name).bind()
            self._bound_for = _setup
        return getattr(self._bound, method)


def conceal(secret: str) -> None:
    """From now on write a mask wherever this text would stand in a line, whoever said it."""
    global _concealed  # noqa: PLW0603 - replaced whole, so that no line is written by half a list
    with _LOCK:
        if len(secret) >= _SHORTEST_CONCEALED and secret not in _concealed:
            _concealed = (*_concealed[-_MOST_CONCEALED:], secret)


def redact_by_type(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep plain values, bounded; replace everything else by its type's name."""
    error = event.pop("exc_info", None)
    if error:
        # No renderer may find the exception itself: its text, and the values around it, are content.
        kind = type(error) if isinstance(error, BaseException) else sys.exc_info()[0]
        event["exception"] = None if kind is None else kind.__name__
    known = _known_in(event.values())
    for key, value in event.items():
        event[key] = _plain(value, known)
    return event


def place_of(error: BaseException) -> str:
    """The function and line where an exception was raised: of a traceback, all that carries no content."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return f"{step.tb_frame.f_code.co_qualname}:{step.tb_lineno}" if step is not None else ""


def repeats_secret(text: str) -> bool:
    """Whether a text that somebody else wrote holds a secret of ours."""
    return any(secret in text for secret in _concealed)


def _known_in(values: Iterable[Any]) -> list[str]:
    """The secrets that stand somewhere in a line: as good as always none, found out in one look for each."""
    texts: list[str] = []
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list | tuple):
            texts += [item for item in value if isinstance(item, str)]
    whole = "\n".join(texts)
    return [secret for secret in _concealed if secret in whole]


def _plain(value: Any, known: Sequence[str]) -> Any:
    if isinstance(value, str):
        for secret in known:
            value = value.replace(secret, "[secret]")
        text = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}… ({len(value)} characters)"
        return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list | tuple) and len(value) <= _MOST and all(isinstance(item, _PLAIN) for item in value):
        return [_plain(item, known) for item in value]
    return value if isinstance(value, _PLAIN) else f"[{type(value).__name__}]"


class _Bridge(logging.Handler):
    """Hand the standard library's records (the server's) to structlog without their arguments' content."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(component=record.name)
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        message = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        log.log(record.levelno, message.splitlines()[0] if message else "", exception=kind)
