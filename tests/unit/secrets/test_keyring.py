"""Secrets in the operating system's keyring, by the library and a keyring in memory."""

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, NoKeyringError, PasswordDeleteError

from securellm.secrets import SecretResolver, SecretUnavailable
from securellm.settings import SecretRef

CANARY = "sk-canary-3b1d0e55"
REF = SecretRef("keyring", "securellm/openai/gateway")


class MemoryKeyring(KeyringBackend):
    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.failure: Exception | None = None

    def get_password(self, service: str, username: str) -> str | None:
        if self.failure is not None:
            raise self.failure
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        raise PasswordDeleteError


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    before, memory = keyring.get_keyring(), MemoryKeyring()
    keyring.set_keyring(memory)
    yield memory
    keyring.set_keyring(before)


def refused(folder: Path) -> SecretUnavailable:
    with pytest.raises(SecretUnavailable) as error:
        SecretResolver(folder, {}).resolve(REF)
    assert CANARY not in "".join(traceback.format_exception(error.value)) + error.value.remedy
    return error.value


@pytest.mark.requirement("SC-1")
def test_an_entry_is_read_by_service_and_user(tmp_path: Path, ring: MemoryKeyring) -> None:
    keyring.set_password("securellm/openai", "gateway", CANARY)
    resolver = SecretResolver(tmp_path, {})
    assert resolver.resolve(REF).reveal() == CANARY
    keyring.set_password("securellm/openai", "gateway", "sk-rotated")
    assert resolver.resolve(REF).reveal() == "sk-rotated"


@pytest.mark.requirement("SC-1")
def test_what_the_keyring_does_not_give_is_named(tmp_path: Path, ring: MemoryKeyring) -> None:
    assert refused(tmp_path).reason == "the keyring has no such entry"
    assert refused(tmp_path).remedy == "run: keyring set securellm/openai gateway"
    keyring.set_password("securellm/openai", "gateway", f"{CANARY}\0")
    assert "NUL" in refused(tmp_path).reason
    for failure, reason in (
        (NoKeyringError(CANARY), "this machine has no keyring"),
        (KeyringLocked(CANARY), "the keyring is locked"),
        (OSError(CANARY), "the keyring failed: OSError"),
    ):
        ring.failure = failure
        assert refused(tmp_path).reason == reason


@pytest.mark.requirement("SC-1")
def test_without_its_extra_the_scheme_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    error = refused(tmp_path)
    assert error.reason == "the extra `keyring` is not installed"
    assert error.remedy == "install it: pip install 'securellm-bridge[keyring]'"
