"""A provider that repeats the credential we gave it: its answer is refused before any of the credential leaves."""

import json

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.secrets import SecretValue
from securellm.telemetry.logs import repeats_secret

_SHORTEST = 8
"""Anything shorter is found in honest text."""
_ESCAPED_ASCII = (b"\\u002", b"\\u003", b"\\u004", b"\\u005", b"\\u006", b"\\u007")


class Echoes:
    """Watches one answer for one secret, in whatever field it stands and however its text is cut into pieces."""

    def __init__(self, secret: SecretValue | None) -> None:
        self._secret = secret.reveal() if secret is not None else ""
        if len(self._secret) < _SHORTEST:
            self._secret = ""
        self._written = json.dumps(self._secret, ensure_ascii=False)[1:-1].encode("utf-8")
        self._pending: dict[str, str] = {}
        """Of each text, the end that may be the beginning of the secret."""

    def refuse_in(self, data: bytes, *, carrier: bytes = b"") -> None:
        """Raises UpstreamFailure(BAD_REPLY) when JSON holds the secret, escaped or not, or the lines around it do."""
        if not self._secret:
            return
        written = self._written
        if written in data or written in carrier or (_may_hide(data) and written in _plain(data)):
            raise _echoed()

    def push(self, channel: str, text: str) -> None:
        """Take the next piece of a text that comes in pieces. Raises UpstreamFailure(BAD_REPLY)."""
        secret = self._secret
        if not secret:
            return
        text = self._pending.pop(channel, "") + text
        if secret in text:
            raise _echoed()
        at = text.find(secret[0], max(0, len(text) - len(secret) + 1))
        while at >= 0:
            if secret.startswith(text[at:]):
                self._pending[channel] = text[at:]
                return
            at = text.find(secret[0], at + 1)

    def close(self, channel: str) -> None:
        """The text is complete: its end is the beginning of nothing."""
        self._pending.pop(channel, None)

    def pending(self, channel: str) -> int:
        """How many characters at the end of the text may not leave yet."""
        return len(self._pending.get(channel, ""))

    def scrub(self, failure: UpstreamFailure) -> None:
        """Take the secret, and any other of ours (such as the one before a rotation), out of a provider's error."""
        failure.provider_code = self._without(failure.provider_code)
        failure.param = self._without(failure.param)
        if self._without(failure.reason) is None:
            failure.reason = "the provider's error repeats our credential"

    def _without(self, text: str | None) -> str | None:
        if text is None or (self._secret and self._secret in text) or repeats_secret(text):
            return None
        return text


def _may_hide(data: bytes) -> bool:
    return b"\\/" in data or (b"\\u00" in data and any(mark in data for mark in _ESCAPED_ASCII))


def _plain(data: bytes) -> bytes:
    try:
        return json.dumps(Document(data, max_depth=128).root, ensure_ascii=False).encode("utf-8")
    except Refusal:
        return b""  # No JSON, which whoever reads it next refuses.


def _echoed() -> UpstreamFailure:
    return UpstreamFailure(Code.BAD_REPLY, "the provider's answer repeats the credential it was given")
