"""The bundles that a snapshot carries: for each tenant the installation's and its own, in force and in the shadow."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from securellm.policy.bundles import Bundle, BundleRefused, hash_of
from securellm.policy.engine import CompiledBundle
from securellm.policy.explaining import compiled_of
from securellm.policy.proving import prove
from securellm.policy.reports import Report

INSTALLATION = ""
"""The scope that every tenant belongs to."""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that somebody put in force, or in the shadow, for one tenant or the installation."""

    tenant: str
    """`INSTALLATION` for all of them."""
    state: Literal["shadow", "enforced"]
    bundle: Bundle
    report: Report | None = None
    """What its trial said, where this process has just had it tried; never stored."""


class Scope(msgspec.Struct, frozen=True):
    """What is asked for one tenant or the installation."""

    enforced: CompiledBundle | None = None
    shadow: CompiledBundle | None = None


class Deciding(msgspec.Struct, frozen=True):
    """All that decides about one tenant's requests: each of the scopes must permit."""

    scopes: tuple[Scope, ...] = ()
    broken: bool = False
    """A bundle in force cannot be loaded: nothing is permitted."""
    asks: bool = False
    """Whether there is anything to ask; else the allow-lists alone decide."""
    basis: str = ""
    """The hashes of what is in force."""
    needs_guard: bool = False
    """Whether a bundle in force asks about what screening finds."""
    release_due: bool = False
    """Whether any bundle does, be it in the shadow."""


_NOTHING = Deciding()


class Policies:
    """The bundles of one snapshot. Never changes; a new one takes its place."""

    def __init__(
        self, scopes: Mapping[str, Scope] | None = None, *, broken: Mapping[str, str] | None = None, version: str = ""
    ) -> None:
        self.scopes = dict(scopes or {})
        self.broken = dict(broken or {})
        """Why a scope denies everything, by scope."""
        self.version = version
        """Of all of them together; empty when there is none."""
        self._everyone = self._composed(INSTALLATION)
        self._own = {tenant: self._composed(tenant) for tenant in {*self.scopes, *self.broken} - {INSTALLATION}}

    def of(self, tenant: str) -> Deciding:
        """What decides about this tenant's requests."""
        return self._own.get(tenant, self._everyone)

    def bundles(self) -> dict[str, CompiledBundle]:
        """By hash."""
        both = (bundle for scope in self.scopes.values() for bundle in (scope.enforced, scope.shadow))
        return {bundle.hash: bundle for bundle in both if bundle is not None}

    def _composed(self, tenant: str) -> Deciding:
        names = dict.fromkeys((INSTALLATION, tenant))
        scopes = tuple(self.scopes[name] for name in names if name in self.scopes)
        broken = any(name in self.broken for name in names)
        if not scopes and not broken:
            return _NOTHING
        enforced = [scope.enforced for scope in scopes if scope.enforced is not None]
        shadows = [scope.shadow for scope in scopes if scope.shadow is not None]
        needs_guard = any(bundle.mentions_guard for bundle in enforced)
        return Deciding(
            scopes=scopes,
            broken=broken,
            asks=True,
            basis=" ".join(f"cedar-{bundle.hash}" for bundle in enforced),
            needs_guard=needs_guard,
            release_due=needs_guard or any(bundle.mentions_guard for bundle in shadows),
        )


NO_POLICIES = Policies()


def compile_policies(declared: Iterable[Declared], *, previous: Policies = NO_POLICIES) -> Policies:
    """The bundles, ready to be asked. Blocks: what `previous` does not hold is first tried in a child process.

    Never raises on account of a bundle. An enforced one that fails its trial denies everything in its scope; one in
    the shadow is left out. Both stand in `broken` or are absent from `scopes`, and are the caller's to report.
    """
    rows = tuple(declared)
    known = previous.bundles()
    hashes = [hash_of(row.bundle) for row in rows]
    fresh = {digest: row for digest, row in zip(hashes, rows, strict=True) if digest not in known}
    reports = {digest: row.report for digest, row in fresh.items() if row.report is not None}
    untried = [row.bundle for digest, row in fresh.items() if digest not in reports]
    reports |= {report.hash: report for report in prove(untried)}
    compiled, refused = dict(known), {}
    for digest, row in fresh.items():
        try:
            compiled[digest] = compiled_of(row.bundle, reports[digest])
        except BundleRefused as error:
            refused[digest] = error.problems[0]
    scopes: dict[str, Scope] = {}
    broken: dict[str, str] = {}
    for digest, row in zip(hashes, rows, strict=True):
        if digest in compiled:
            scope = scopes.get(row.tenant, Scope())
            scopes[row.tenant] = msgspec.structs.replace(scope, **{row.state: compiled[digest]})
        elif row.state == "enforced":
            broken[row.tenant] = refused[digest]
    if not scopes and not broken:
        return NO_POLICIES
    spelled = sorted(f"{row.tenant}/{row.state}/{digest}" for digest, row in zip(hashes, rows, strict=True))
    version = f"policies-{hashlib.sha256(chr(10).join(spelled).encode()).hexdigest()[:32]}"
    if version == previous.version and broken == previous.broken:
        return previous
    return Policies(scopes, broken=broken, version=version)
