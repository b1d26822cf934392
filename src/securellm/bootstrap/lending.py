"""Which secrets and files of this host a declaration made through the admin API may name: those lent to it, never ours.

Who may say where a provider is could otherwise have any secret of this machine sent there: the key that signs the
audit log, the admin token, a file of somebody else's.
"""

import os
import re
from collections.abc import Iterator

from securellm.bootstrap.config import Loaded
from securellm.bootstrap.tree import Provider
from securellm.secrets import SecretUnavailable, SecretValue
from securellm.settings import Problem, SecretRef

_FILES = ("ca_file", "client_cert", "client_key")
_OWN_FILES = ("pepper", "admin-token", "audit-key", "setup-token")


def not_lent(provider: Provider, loaded: Loaded) -> Iterator[Problem]:
    """Problems of a stored provider that names what the configuration does not lend. Reads no secret."""
    named = {"credential": provider.credential}
    named |= {key: None if (path := getattr(provider, key)) is None else SecretRef("file", path) for key in _FILES}
    for key, ref in named.items():
        if ref is None:
            continue
        if ref.scheme == "file" and _is_within(loaded, ref):
            yield Problem(None, key, "is in the gateway's own data folder", "name a credential of the provider's")
        elif not is_lent(str(ref), loaded.config.secrets.api_references):
            yield Problem(
                None,
                key,
                "is not lent to declarations made through the API",
                f'on the host, add "{ref}" to secrets.api_references in the configuration file',
            )


def is_lent(reference: str, patterns: tuple[str, ...]) -> bool:
    """Whether `reference` fits one of `patterns`, in which `*` stands for any text, and climbs out of no folder."""
    if reference.startswith("file:") and ".." in reference.removeprefix("file:").split("/"):
        return False
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), reference, re.DOTALL) is not None
        for pattern in patterns
    )


def is_ours(provider: Provider, loaded: Loaded) -> bool:
    """Whether the credential of `provider` is, by whatever reference, one of the gateway's own secrets. Blocking."""
    if provider.credential is None:
        return False
    try:
        lent = loaded.resolver.resolve(provider.credential)
    except SecretUnavailable:
        return False
    return any(lent == own for own in _own_secrets(loaded))


def _is_within(loaded: Loaded, ref: SecretRef) -> bool:
    path, folder = os.path.realpath(loaded.path.parent / ref.value), os.path.realpath(loaded.data_dir)
    return os.path.commonpath((path, folder)) == folder


def _own_secrets(loaded: Loaded) -> Iterator[SecretValue]:
    for ref in _own_references(loaded):
        try:
            yield loaded.resolver.resolve(ref)
        except SecretUnavailable:
            continue


def _own_references(loaded: Loaded) -> Iterator[SecretRef]:
    config = loaded.config
    security, vault, gcp = config.security, config.secrets.vault, config.secrets.gcp
    refs = [security.pepper, security.admin_token, security.audit_key, config.storage.password]
    refs += [] if vault is None else [vault.token, vault.role_id, vault.secret_id, vault.jwt]
    refs += [] if gcp is None else [gcp.service_account]
    refs += [issuer.login.client_secret for issuer in config.identity.issuers if issuer.login is not None]
    refs += [key.secret for key in config.keys]
    refs += [SecretRef("file", str(loaded.data_dir / "keys" / name)) for name in _OWN_FILES]
    yield from (ref for ref in refs if ref is not None)
