"""The policy bundles that the configuration file names."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from securellm.bootstrap.config import Loaded
from securellm.bootstrap.tree import Config
from securellm.policy import INSTALLATION, BundleRefused, Declared, open_bundle, prove
from securellm.settings import ConfigError, FilePath, Problem

_REMEDY = "correct the bundle: `securellm policy test PATH` says more"


class _Named(NamedTuple):
    key: str
    """Where the configuration names it."""
    tenant: str
    state: Literal["shadow", "enforced"]
    path: FilePath


class FileBundles:
    """The bundles of the file that was loaded last, read and tried once for each time it is loaded."""

    def __init__(self) -> None:
        self._of: Loaded | None = None
        self._found: tuple[Declared, ...] = ()

    def __call__(self, loaded: Loaded) -> tuple[Declared, ...]:
        """As `declared_policies`."""
        if self._of is not loaded:
            self._found, self._of = declared_policies(loaded), loaded
        return self._found


def declared_policies(loaded: Loaded) -> tuple[Declared, ...]:
    """The bundles of the file, each tried. Blocks for some tenths of a second where there are any.

    Raises ConfigError with every problem of every bundle.
    """
    problems: list[Problem] = []
    found: list[Declared] = []
    keys: list[str] = []
    for named in _named(loaded.config):
        try:
            bundle = open_bundle(loaded.locate(named.path))
        except BundleRefused as refused:
            problems += [Problem(None, named.key, problem, _REMEDY) for problem in refused.problems]
            continue
        found.append(Declared(tenant=named.tenant, state=named.state, bundle=bundle))
        keys.append(named.key)
    reports = prove([row.bundle for row in found])
    for key, report in zip(keys, reports, strict=True):
        problems += [Problem(None, key, problem, _REMEDY) for problem in report.problems]
    if problems:
        raise ConfigError(str(loaded.path), tuple(problems))
    return tuple(msgspec.structs.replace(row, report=report) for row, report in zip(found, reports, strict=True))


def _named(config: Config) -> Iterator[_Named]:
    scopes = [("policy", INSTALLATION, config.policy)]
    scopes += [(f"tenants[{tenant.id}].policy", tenant.id, tenant.policy) for tenant in config.tenants]
    for key, scope, settings in scopes:
        if settings.bundle is not None:
            yield _Named(f"{key}.bundle", scope, "enforced", settings.bundle)
        if settings.shadow is not None:
            yield _Named(f"{key}.shadow", scope, "shadow", settings.shadow)
