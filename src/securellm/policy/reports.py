"""What is said of a bundle once it was tried."""

import msgspec

from securellm.policy.engine import PolicyRow


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one of a bundle's own tests."""

    name: str
    passed: bool
    found: str = ""
    """What was otherwise than expected."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a bundle can be put in force, and if not, every reason."""

    hash: str
    problems: tuple[str, ...] = ()
    policies: tuple[PolicyRow, ...] = ()
    tests: tuple[CaseResult, ...] = ()
    untested: tuple[str, ...] = ()
    """The policies whose loss no test would notice."""

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def mentions_guard(self) -> bool:
        """Whether it must be asked again after screening."""
        return any(row.mentions_guard for row in self.policies)
