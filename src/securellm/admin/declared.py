"""Declarations of the file and of the store as the admin API sees them; bootstrap knows what they mean."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from securellm.settings import Problem
from securellm.storage import Session

Kind = Literal["tenant", "provider", "model", "budget", "limits"]
Document = Mapping[str, Any]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A declaration as it is kept."""

    name: str
    document: Document
    managed_by: Literal["file", "api"]
    revision: int = 0
    created_us: int = 0
    updated_us: int = 0


class Declared(Protocol):
    """Every declaration, of the file and of the store. Blocking: each method runs inside a transaction.

    The changing ones raise `Refusal` (NOT_FOUND, CONFLICT, MANAGED_BY_FILE, PRECONDITION_FAILED) and `Refused`.
    """

    def tree(self, kind: Kind) -> type[msgspec.Struct]: ...

    def find(self, session: Session, kind: Kind, name: str, *, tenant: str = "") -> Found | None: ...

    def page(
        self, session: Session, kind: Kind, *, tenant: str = "", after: str | None, limit: int
    ) -> tuple[Found, ...]: ...

    def check(
        self, session: Session, kind: Kind, before: Found | None, document: Document, *, tenant: str = ""
    ) -> None:
        """Raises what `replace` of `before` would raise, or `create` where there is none."""
        ...

    def create(self, session: Session, kind: Kind, document: Document, *, tenant: str = "") -> Found: ...

    def replace(
        self, session: Session, kind: Kind, before: Found, document: Document, *, tenant: str = ""
    ) -> Found: ...

    def remove(self, session: Session, kind: Kind, before: Found, *, tenant: str = "") -> None: ...


class Refused(Exception):
    """A document that does not fit what is in force, with all that is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems
