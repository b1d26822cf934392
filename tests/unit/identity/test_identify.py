"""Who asks: recognising a virtual key, and refusing everything else."""

import asyncio
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.identity import Identities, Identity, KeyConflict, KeyTable, VirtualKey, declared_key, is_credential
from securellm.identity.rules import TOKEN_ENTROPY, digest_of, prefix_of, token_of

PEPPER = bytes(range(32))
TOKEN = token_of(bytes(range(TOKEN_ENTROPY)))


def key(token: str = TOKEN, **changes: object) -> VirtualKey:
    fields: dict[str, object] = {
        "id": "key_1",
        "tenant": "acme",
        "name": "app",
        "prefix": prefix_of(token),
        "digest": digest_of(token, pepper=PEPPER),
        "models": ("gpt",),
        "created_us": 0,
        "managed_by": "api",
    }
    return VirtualKey(**{**fields, **changes})  # type: ignore[arg-type]


def identify(
    credential: str | None, *keys: VirtualKey, surface: Surface | None = Surface.CHAT, clock: ManualClock | None = None
) -> Identity:
    gate = Identities(PEPPER, clock or ManualClock())
    return asyncio.run(gate.identify(KeyTable.of(keys), credential, surface=surface))


def refusal(credential: str | None, *keys: VirtualKey, surface: Surface = Surface.CHAT) -> Code:
    with pytest.raises(Refusal) as refused:
        identify(credential, *keys, surface=surface)
    return refused.value.code


def test_a_valid_key_proves_its_tenant_and_scopes() -> None:
    surfaces = (Surface.CHAT, Surface.EMBEDDINGS)
    assert identify(TOKEN, key(surfaces=surfaces)) == Identity(
        tenant="acme", key_id="key_1", principal="key:key_1", models=("gpt",), surfaces=surfaces
    )


@pytest.mark.parametrize("credential", [None, ""])
def test_no_credential_is_a_missing_key(credential: str | None) -> None:
    assert refusal(credential, key()) is Code.MISSING_KEY


@pytest.mark.parametrize(
    "credential",
    ["short", "x" * 513, TOKEN + "\n", TOKEN + " ", "ключ-ключ-ключ", TOKEN[:-1], TOKEN.upper(), "\0" * 20],
)
def test_what_is_not_a_key_of_ours_is_invalid(credential: str) -> None:
    assert refusal(credential, key()) is Code.INVALID_KEY


@given(st.text(max_size=600))
def test_no_text_but_the_token_is_ever_recognised(credential: str) -> None:
    assert refusal(credential, key()) in {Code.MISSING_KEY, Code.INVALID_KEY}


def test_a_revoked_key_is_refused_even_when_it_has_also_expired() -> None:
    assert refusal(TOKEN, key(revoked_us=1, expires_us=1)) is Code.REVOKED_KEY


def test_a_key_is_refused_from_the_very_moment_it_expires() -> None:
    clock = ManualClock()
    expiring = key(expires_us=clock.us + 1)
    assert identify(TOKEN, expiring, clock=clock).key_id == "key_1"
    clock.advance_us(1)
    with pytest.raises(Refusal) as refused:
        identify(TOKEN, expiring, clock=clock)
    assert refused.value.code is Code.EXPIRED_KEY


def test_a_key_scoped_to_other_surfaces_is_refused_but_may_list_models() -> None:
    scoped = key(surfaces=(Surface.EMBEDDINGS,))
    assert refusal(TOKEN, scoped) is Code.SURFACE_NOT_ALLOWED
    assert identify(TOKEN, scoped, surface=None).key_id == "key_1"


def test_a_refusal_never_repeats_the_credential() -> None:
    with pytest.raises(Refusal) as refused:
        identify("sk-somebody-elses-secret", key())
    assert "somebody" not in str(refused.value)


class Watched(Mapping[bytes, VirtualKey]):
    """A table that notes what it is asked for."""

    def __init__(self, keys: Mapping[bytes, VirtualKey]) -> None:
        self.keys_of = keys
        self.asked: list[bytes] = []

    def __getitem__(self, digest: bytes) -> VirtualKey:
        self.asked.append(digest)
        return self.keys_of[digest]

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("the table is searched, not looked up in")

    def __len__(self) -> int:
        return len(self.keys_of)


@given(st.integers(0, len(TOKEN) - 1))
def test_only_a_digest_of_the_whole_token_is_ever_compared(at: int) -> None:
    near = TOKEN[:at] + ("A" if TOKEN[at] != "A" else "B") + TOKEN[at + 1 :]
    table = Watched({key().digest: key()})
    with pytest.raises(Refusal):
        asyncio.run(Identities(PEPPER, ManualClock()).identify(KeyTable(table), near, surface=Surface.CHAT))
    (asked,) = table.asked
    assert asked == digest_of(near, pepper=PEPPER)
    assert len(asked) == 32
    assert asked != key().digest


def test_a_credential_that_cannot_be_one_is_not_even_digested() -> None:
    table = Watched({})
    with pytest.raises(Refusal):
        asyncio.run(Identities(PEPPER, ManualClock()).identify(KeyTable(table), "x" * 5000, surface=Surface.CHAT))
    assert table.asked == []


def test_another_pepper_recognises_nothing() -> None:
    with pytest.raises(Refusal):
        asyncio.run(Identities(bytes(32), ManualClock()).identify(KeyTable.of([key()]), TOKEN, surface=Surface.CHAT))


def test_a_short_pepper_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Identities(bytes(31), ManualClock())


@given(st.binary(min_size=TOKEN_ENTROPY, max_size=TOKEN_ENTROPY))
def test_every_new_token_has_the_published_form(entropy: bytes) -> None:
    token = token_of(entropy)
    assert is_credential(token)
    shown, secret = token[:12], token[13:]
    assert shown.startswith("slb_")
    assert prefix_of(token) == shown
    assert (len(shown), token[12], len(secret)) == (12, "_", 43)


def test_a_token_of_another_length_of_entropy_is_refused() -> None:
    with pytest.raises(ValueError, match="37 bytes"):
        token_of(bytes(36))


def test_a_declared_key_keeps_its_id_and_shows_little_of_a_foreign_token() -> None:
    first, again = (declared_key("sk-operator-chosen", pepper=PEPPER, tenant="acme", models=("*",)) for _ in range(2))
    assert first == again
    assert first.prefix == "sk-o"
    assert first.managed_by == "file"
    assert "operator" not in repr(first)
    with pytest.raises(ValueError, match="printable ASCII"):
        declared_key("spaces in it", pepper=PEPPER, tenant="acme", models=("*",))


def test_a_table_refuses_two_keys_of_one_id_or_one_token() -> None:
    with pytest.raises(KeyConflict, match="two virtual keys have the id key_1"):
        KeyTable.of([key(), key("another-token")])
    with pytest.raises(KeyConflict, match="are one token"):
        KeyTable.of([key(), key(id="key_2")])


def test_a_table_cannot_be_changed() -> None:
    table = KeyTable.of([key()])
    with pytest.raises(TypeError):
        table.by_digest[b""] = key()  # type: ignore[index]
