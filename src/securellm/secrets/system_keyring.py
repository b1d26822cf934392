"""Secrets in the operating system's keyring, by the `keyring` library (extra `keyring`)."""

from securellm.secrets.model import SourceFailure
from securellm.settings.references import KeyringPlace


def read(wanted: KeyringPlace) -> str:
    """The password stored for a service and a user. Blocks. Raises SourceFailure."""
    try:
        import keyring
        from keyring.errors import KeyringError, KeyringLocked, NoKeyringError
    except ImportError:
        raise SourceFailure(
            "the extra `keyring` is not installed", "install it: pip install 'securellm-bridge[keyring]'"
        ) from None
    try:
        found = keyring.get_password(wanted.service, wanted.user)
    except NoKeyringError:
        raise SourceFailure("this machine has no keyring", "use env: or file: on a server") from None
    except KeyringLocked:
        raise SourceFailure("the keyring is locked", "unlock it for the gateway's user") from None
    except (KeyringError, OSError, RuntimeError) as error:
        raise SourceFailure(f"the keyring failed: {type(error).__name__}", "open it with its own tool") from None
    if found is None:
        raise SourceFailure("the keyring has no such entry", f"run: keyring set {wanted.service} {wanted.user}")
    return found
