"""The query of a request's address: what is read of it, and what never belongs in one."""

import re
from typing import Self
from urllib.parse import parse_qsl

from securellm.core.errors import Code, Refusal

_MOST = 64
_CREDENTIALS = frozenset({"key", "api_key", "apikey", "api-key", "access_token", "token"})
"""Where some clients put a key. An address ends up in logs, histories and referrers; a key must not."""
TRAVELLING = frozenset({"after", "before", "beta", "include", "include[]", "include_obfuscation", "limit", "order"})
"""What may travel on to a provider: ids, names of fields and small numbers, and nothing that could be a text."""
_NAME = re.compile(r"[A-Za-z0-9_.:,\[\]-]{0,512}")
_NUMBER = re.compile(r"[0-9.:,-]{9,}")


class Query:
    """Names and values, decoded once."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises Refusal (INVALID_REQUEST, MISSING_KEY) for one that is too long or carries a credential."""
        if not text:
            return cls([])
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST)
        except ValueError:
            raise Refusal(Code.INVALID_REQUEST, f"the query has more than {_MOST} parameters") from None
        for name, _ in pairs:
            if name.lower() in _CREDENTIALS:
                raise Refusal(
                    Code.MISSING_KEY,
                    f"a credential in the address ({name}=) ends up in logs and is refused",
                    param=name,
                )
        for name, value in pairs:
            if name in TRAVELLING and (not _NAME.fullmatch(value) or _NUMBER.fullmatch(value)):
                raise Refusal(Code.INVALID_REQUEST, f"{name} is no name, id or small number", param=name)
        return cls(pairs)

    def every(self, name: str) -> list[str]:
        """All values of a parameter, in order."""
        return [value for given, value in self._pairs if given == name]

    def one(self, name: str) -> str | None:
        """The value of a parameter. Raises Refusal(INVALID_REQUEST) when it is given twice."""
        values = self.every(name)
        if len(values) > 1:
            raise Refusal(Code.INVALID_REQUEST, f"{name} stands in the address twice", param=name)
        return values[0] if values else None

    def count(self, name: str, *, default: int, largest: int) -> int:
        """A whole number from 1. Raises Refusal(INVALID_REQUEST)."""
        text = self.one(name)
        if text is None or text == "":
            return default
        if len(text) > 9 or not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= largest:
            raise Refusal(Code.INVALID_REQUEST, f"{name} must be a whole number from 1 to {largest}", param=name)
        return int(text)
