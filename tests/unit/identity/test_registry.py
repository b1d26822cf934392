"""The life of a virtual key: issued once, stored as a keyed digest, listed, revoked for good."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, Refusal
from securellm.core.randomness import SystemRandomness
from securellm.core.surfaces import Surface
from securellm.identity import (
    KeyConflict,
    KeyRegistry,
    KeyStore,
    PepperMismatch,
    VirtualKey,
    declared_key,
    digest_of,
)
from securellm.identity.rules import page_of
from securellm.identity.store import PEPPER as PEPPER_TABLE
from securellm.storage import ControlStore

PEPPER = bytes(range(32))
DECLARED = declared_key("sk-from-the-file", pepper=PEPPER, tenant="acme", models=("*",), name="file")


class Home:
    """A control database on disk that can be closed and opened again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.db"
        self.clock = ManualClock()
        self.control = ControlStore.open(self.path, migrate=True)

    def store(self, pepper: bytes = PEPPER) -> KeyStore:
        return KeyStore(self.control, pepper=pepper, clock=self.clock, randomness=SystemRandomness())

    def registry(self, *declared: VirtualKey) -> KeyRegistry:
        return KeyRegistry(self.store(), declared=declared)

    def restart(self) -> None:
        self.control.close()
        self.control = ControlStore.open(self.path, migrate=True)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def create(registry: KeyRegistry, name: str = "app", tenant: str = "acme") -> tuple[VirtualKey, str]:
    issued = registry.create(
        tenant=tenant, name=name, models=("gpt", "claude"), surfaces=(Surface.CHAT,), expires_us=2_000_000_000_000_000
    )
    return issued.key, issued.token


def test_a_new_key_survives_a_restart_with_everything_but_its_token(home: Home) -> None:
    key, token = create(home.registry())
    home.restart()
    assert home.registry().get(key.id) == key
    assert home.registry().table().find(digest_of(token, pepper=PEPPER)) == key
    assert key.prefix == token[:12]
    home.control.close()
    assert token.encode() not in home.path.read_bytes()
    assert token[13:].encode() not in home.path.read_bytes()


def test_an_issued_key_does_not_print_its_token(home: Home) -> None:
    issued = home.registry().create(tenant="acme", name="app", models=("*",))
    assert issued.token not in repr(issued)
    assert issued.token not in f"{issued}"


def test_no_two_keys_are_alike(home: Home) -> None:
    registry = home.registry()
    made = [create(registry) for _ in range(20)]
    assert len({token for _, token in made}) == len({key.id for key, _ in made}) == 20


def test_revoking_is_final_and_doing_it_again_changes_nothing(home: Home) -> None:
    registry = home.registry()
    key, _ = create(registry)
    home.clock.advance(5)
    first = registry.revoke(key.id)
    assert first.revoked_us == home.clock.us
    home.clock.advance(5)
    assert registry.revoke(key.id) == first
    home.restart()
    assert home.registry().get(key.id) == first


def test_every_change_is_seen_in_the_version(home: Home) -> None:
    registry = home.registry(DECLARED)
    before = registry.version()
    key, _ = create(registry)
    created = registry.version()
    registry.revoke(key.id)
    assert before < created < registry.version()
    registry.page()
    assert registry.version() == created + 1


def test_declared_keys_are_listed_but_not_revocable(home: Home) -> None:
    registry = home.registry(DECLARED)
    assert registry.get(DECLARED.id) == DECLARED
    assert registry.page().keys == (DECLARED,)
    with pytest.raises(Refusal) as refused:
        registry.revoke(DECLARED.id)
    assert refused.value.code is Code.MANAGED_BY_FILE


def test_an_unknown_id_is_not_found(home: Home) -> None:
    for ask in (home.registry().get, home.registry().revoke):
        with pytest.raises(Refusal) as refused:
            ask("key_unknown")
        assert refused.value.code is Code.NOT_FOUND


def test_the_same_token_in_the_file_and_in_the_store_refuses(home: Home) -> None:
    _, token = create(home.registry())
    twin = declared_key(token, pepper=PEPPER, tenant="acme", models=("*",))
    with pytest.raises(KeyConflict):
        home.registry(twin).table()


def test_another_pepper_refuses(home: Home) -> None:
    create(home.registry())
    with pytest.raises(PepperMismatch, match="differs from the one") as refused:
        home.store(bytes(32))
    assert "Restore the pepper" in refused.value.remedy
    home.store(PEPPER)


def test_a_removed_fingerprint_refuses_while_keys_exist(home: Home) -> None:
    create(home.registry())
    home.control.write(lambda session: session.run(delete(PEPPER_TABLE)))
    with pytest.raises(PepperMismatch, match="no pepper's fingerprint"):
        home.store(PEPPER)


def test_another_pepper_refuses_even_before_the_first_key(home: Home) -> None:
    home.store(PEPPER)
    with pytest.raises(PepperMismatch):
        home.store(bytes(32))


def test_opening_the_store_again_writes_nothing(home: Home) -> None:
    version = home.store().version()
    assert home.store().version() == version


@given(ids=st.sets(st.sampled_from([f"key_{number}" for number in range(30)])), limit=st.integers(1, 7))
def test_pages_together_hold_every_key_once_in_order(ids: set[str], limit: int) -> None:
    keys = [
        VirtualKey(
            id=name,
            tenant="acme" if name.endswith("1") else "other",
            name="",
            prefix="",
            digest=name.encode(),
            models=(),
            created_us=0,
            managed_by="api",
        )
        for name in ids
    ]
    for tenant in (None, "acme"):
        seen: list[str] = []
        after = None
        while True:
            page = page_of(keys, after=after, limit=limit, tenant=tenant)
            assert len(page.keys) <= limit
            seen += [key.id for key in page.keys]
            if page.after is None:
                break
            after = page.after
        assert seen == sorted(key.id for key in keys if tenant in (None, key.tenant))
