"""The life of a virtual key: issued once, stored as a keyed digest, listed, revoked for good."""

from pathlib import Path

import pytest
from sqlalchemy import delete
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, Refusal
from securellm.core.randomness import SystemRandomness
from securellm.core.surfaces import Surface
from securellm.identity import (
    IssuedKey,
    KeyConflict,
    Keyring,
    KeyTable,
    PepperMismatch,
    VirtualKey,
    all_stored_keys,
    bind_pepper,
    declared_key,
    digest_of,
)
from securellm.identity.store import PEPPER as PEPPER_TABLE
from securellm.storage import ControlStore

PEPPER = bytes(range(32))
DECLARED = declared_key("sk-from-the-file", pepper=PEPPER, tenant="acme", models=("*",), name="file")


class Home:
    """A control database on disk that can be closed and opened again, and its keyring."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.db"
        self.clock = ManualClock()
        self.control = ControlStore.open(self.path, migrate=True)
        self.keyring = Keyring(PEPPER, self.clock, SystemRandomness(), declared=[DECLARED])
        bind_pepper(self.control, PEPPER)

    def restart(self) -> None:
        self.control.close()
        self.control = ControlStore.open(self.path, migrate=True)

    def issue(self) -> IssuedKey:
        return self.control.write(
            lambda session: self.keyring.issue(
                session,
                tenant="acme",
                name="app",
                models=("gpt", "claude"),
                surfaces=(Surface.CHAT,),
                expires_us=2_000_000_000_000_000,
            )
        )

    def get(self, key_id: str) -> VirtualKey:
        return self.control.read(lambda session: self.keyring.get(session, key_id))

    def revoke(self, key_id: str) -> VirtualKey:
        return self.control.write(lambda session: self.keyring.revoke(session, key_id))

    def table(self, *declared: VirtualKey) -> KeyTable:
        return self.control.read(lambda session: KeyTable.of([*declared, *all_stored_keys(session)]))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_new_key_survives_a_restart_with_everything_but_its_token(home: Home) -> None:
    issued = home.issue()
    home.restart()
    assert home.get(issued.key.id) == issued.key
    assert home.table().find(digest_of(issued.token, pepper=PEPPER)) == issued.key
    assert issued.key.prefix == issued.token[:12]
    home.control.close()
    assert issued.token.encode() not in home.path.read_bytes()
    assert issued.token[13:].encode() not in home.path.read_bytes()


def test_an_issued_key_does_not_print_its_token(home: Home) -> None:
    issued = home.issue()
    assert issued.token not in repr(issued)
    assert issued.token not in f"{issued}"


def test_no_two_keys_are_alike(home: Home) -> None:
    made = [home.issue() for _ in range(20)]
    assert len({issued.token for issued in made}) == len({issued.key.id for issued in made}) == 20


def test_revoking_is_final_and_doing_it_again_changes_nothing(home: Home) -> None:
    key = home.issue().key
    home.clock.advance(5)
    first = home.revoke(key.id)
    assert first.revoked_us == home.clock.us
    home.clock.advance(5)
    assert home.revoke(key.id) == first
    home.restart()
    assert home.get(key.id) == first


def test_every_change_is_seen_in_the_version(home: Home) -> None:
    before = home.control.version
    key = home.issue().key
    created = home.control.version
    home.revoke(key.id)
    assert before < created < home.control.version
    home.control.read(home.keyring.page)
    assert home.control.version == created + 1


def test_an_unknown_id_is_not_found(home: Home) -> None:
    for ask in (home.get, home.revoke):
        with pytest.raises(Refusal) as refused:
            ask("key_unknown")
        assert refused.value.code is Code.NOT_FOUND


def test_the_same_token_in_the_file_and_in_the_store_refuses(home: Home) -> None:
    twin = declared_key(home.issue().token, pepper=PEPPER, tenant="acme", models=("*",))
    with pytest.raises(KeyConflict):
        home.table(twin)


def test_another_pepper_refuses(home: Home) -> None:
    home.issue()
    with pytest.raises(PepperMismatch, match="differs from the one") as refused:
        bind_pepper(home.control, bytes(32))
    assert "Restore the pepper" in refused.value.remedy
    bind_pepper(home.control, PEPPER)


def test_a_removed_fingerprint_refuses_while_keys_exist(home: Home) -> None:
    home.issue()
    home.control.write(lambda session: session.run(delete(PEPPER_TABLE)))
    with pytest.raises(PepperMismatch, match="no pepper's fingerprint"):
        bind_pepper(home.control, PEPPER)


def test_another_pepper_refuses_even_before_the_first_key(home: Home) -> None:
    with pytest.raises(PepperMismatch):
        bind_pepper(home.control, bytes(32))


def test_binding_the_same_pepper_again_writes_nothing(home: Home) -> None:
    version = home.control.version
    bind_pepper(home.control, PEPPER)
    assert home.control.version == version
