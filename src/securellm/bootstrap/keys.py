"""The gateway's own secrets: from where the file says, or from the key folder."""

from typing import TYPE_CHECKING

import msgspec

from securellm.core.randomness import Randomness
from securellm.secrets import KeyFolder, SecretValue
from securellm.storage import DataDir

if TYPE_CHECKING:
    from securellm.bootstrap.config import Loaded  # a command that is told where the data is reads no configuration


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's own secrets."""

    pepper: bytes
    admin_token: SecretValue
    audit_seed: bytes


def open_keys(loaded: "Loaded", data: DataDir, randomness: Randomness) -> Keys:
    """By reference where the file says so, else from the key folder, made on the first start only.

    Raises KeyRefused when a key that stored data depends on is missing.
    """
    folder = KeyFolder(data.keys, randomness)
    security = loaded.config.security
    resolve = loaded.resolver.resolve
    pepper = (
        resolve(security.pepper) if security.pepper is not None else folder.pepper(create=not data.control.exists())
    )
    seed = (
        resolve(security.audit_key)
        if security.audit_key is not None
        else folder.audit_key(create=not data.audit.exists())
    )
    token = resolve(security.admin_token) if security.admin_token is not None else folder.admin_token(create=True)
    return Keys(pepper=bytes.fromhex(pepper.reveal()), admin_token=token, audit_seed=bytes.fromhex(seed.reveal()))


def stored_keys(data: DataDir, randomness: Randomness) -> Keys:
    """The keys of the key folder, none of them made: for commands that are told only where the data is."""
    folder = KeyFolder(data.keys, randomness)
    return Keys(
        pepper=bytes.fromhex(folder.pepper(create=False).reveal()),
        admin_token=folder.admin_token(create=False),
        audit_seed=bytes.fromhex(folder.audit_key(create=False).reveal()),
    )
