"""A configuration under review: what is refused and what is warned of, each at its place."""

from collections.abc import Callable
from pathlib import Path

from securellm.bootstrap.tree import Config
from securellm.secrets import SecretResolver, SecretUnavailable, SecretValue, header_safe
from securellm.settings import FilePath, Problem, SecretRef
from securellm.settings.loader import Complaints
from securellm.settings.locator import Path as Place
from securellm.transport import Target, parse_base_url

SHORT_KEY = 24
"""Characters below which a secret that callers present is short."""


class Review:
    """What the checks read and write. Problems go to `complaints`; a place that has one gets no second."""

    def __init__(
        self,
        config: Config,
        complaints: Complaints,
        *,
        base: Path,
        resolver: SecretResolver,
        resolves: Callable[[Place], bool] = lambda _: True,
    ) -> None:
        """`resolves` says of which places the secrets are looked at."""
        self.config = config
        self.base = base
        self.broken = complaints.broken
        self.within = complaints.within
        self._complaints = complaints
        self._resolver = resolver
        self._resolves = resolves
        self._warnings: list[tuple[Place, Problem]] = []
        self._dotenv_broken = False

    @property
    def warnings(self) -> tuple[tuple[Place, Problem], ...]:
        """What is allowed but unwise, as far as it was looked for."""
        return tuple(self._warnings)

    def refuse(self, path: Place, reason: str, remedy: str, *, suggestion: str | None = None) -> None:
        self._complaints.add(path, reason, remedy, suggestion=suggestion)

    def warn(self, path: Place, reason: str, remedy: str) -> None:
        if not self.broken(path):
            self._warnings.append((path, self._complaints.problem(path, reason, remedy)))

    def file(self, path: Place, file: FilePath) -> bool:
        """Whether it can be read; refused where not."""
        if self.broken(path):
            return False
        try:
            with (self.base / file).open("rb") as opened:
                opened.read(1)
        except OSError as error:
            why = error.strerror.lower() if error.strerror else "cannot be read"
            self.refuse(path, f"the file cannot be read: {why}", "name a file that the gateway's user can read")
            return False
        return True

    def address(self, path: Place, text: str, *, remedy: str) -> Target | None:
        """Where an http(s) address leads; None, and refused, when it is none."""
        try:
            return parse_base_url(text)
        except ValueError as error:
            self.refuse(path, str(error), remedy)
            return None

    def dotenv(self) -> None:
        """Refuse a `.env` that cannot be read. To be asked before any secret, which would complain of it again."""
        try:
            self._resolver.dotenv()
        except SecretUnavailable as unavailable:
            self._dotenv_broken = True
            self.refuse((".env",), f"{unavailable.reason} ({unavailable.reference})", unavailable.remedy)

    def secret(self, path: Place, ref: SecretRef | None) -> SecretValue | None:
        """What it refers to. None where there is nothing to be had: refused, unless that is none of this review's."""
        if ref is None or self.broken(path) or not self._resolves(path):
            return None
        try:
            return self._resolver.resolve(ref)
        except SecretUnavailable as unavailable:
            if not (self._dotenv_broken and unavailable.reference != str(ref)):
                self.refuse(path, str(unavailable), unavailable.remedy)
            return None

    def header_secret(self, path: Place, ref: SecretRef | None, *, remedy: str) -> None:
        """Refuse a secret that no header can carry."""
        secret = self.secret(path, ref)
        if secret is not None and not header_safe(secret):
            self.refuse(path, f"{ref} holds spaces or characters that no header can carry", remedy)
