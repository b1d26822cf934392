"""Where credentials come from, how they stay fresh, and the value that never prints."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.secrets.credentials import Credential, CredentialKeeper, FixedCredential, header_safe
    from securellm.secrets.keys import KeyFolder, KeyRefused
    from securellm.secrets.model import SecretUnavailable
    from securellm.secrets.resolver import SecretResolver, process_environment
    from securellm.secrets.settings import SecretsSettings
    from securellm.secrets.value import SecretValue
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "Credential",
    "CredentialKeeper",
    "FixedCredential",
    "KeyFolder",
    "KeyRefused",
    "SecretResolver",
    "SecretUnavailable",
    "SecretValue",
    "SecretsSettings",
    "header_safe",
    "process_environment",
]
