"""Signed notes, byte for byte as C2SP writes them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.audit.note import Checkpoint, NoteInvalid, Signer, Verifier, public_key

# The example of the reference implementation (golang.org/x/mod/sumdb/note).
NAME = "PeterNeumann"
SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)

ORIGIN = "securellm-bridge/audit/0001"
HEAD = Checkpoint(origin=ORIGIN, size=5, root=bytes(range(32)))


def signed(head: Checkpoint = HEAD) -> tuple[bytes, Verifier]:
    signer = Signer(ORIGIN, SEED)
    return signer.sign(head.text()), Verifier(signer.vkey)


def test_the_reference_note_comes_out() -> None:
    signer = Signer(NAME, SEED)
    assert signer.vkey == VKEY
    assert signer.sign(TEXT) == TEXT + b"\n" + SIGNATURE.encode()
    assert Verifier(VKEY).public_key == public_key(SEED)


@given(st.integers(0, 2**62), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_is_read_as_it_was_written(size: int, root: bytes) -> None:
    head = Checkpoint(origin=ORIGIN, size=size, root=root)
    note, verifier = signed(head)
    assert verifier.open(note) == head
    assert note.split(b"\n")[:3] == [ORIGIN.encode(), str(size).encode(), base64.b64encode(root)]


@pytest.mark.requirement("AU-4")
def test_no_bit_of_a_note_can_change() -> None:
    note, verifier = signed()
    for position in range(len(note)):
        for bit in range(8):
            changed = bytearray(note)
            changed[position] ^= 1 << bit
            with pytest.raises(NoteInvalid):
                verifier.open(bytes(changed))


@pytest.mark.parametrize("addition", [b"\n", b" ", b"x", "— other AAAA\n".encode()])
def test_nothing_can_be_added_to_a_note(addition: bytes) -> None:
    note, verifier = signed()
    for changed in (note + addition, addition + note, note[:-1], b"", note.replace(b"\n", b"\r\n")):
        with pytest.raises(NoteInvalid):
            verifier.open(changed)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n05\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n-1\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n{'9' * 5000}\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n٥\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n5\n{base64.b64encode(bytes(31)).decode()}\n",
        f"{ORIGIN}\n5\n{base64.b64encode(bytes(32)).decode()}\nextension\n",
        f"another/log\n5\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n5\n",
    ],
)
def test_a_well_signed_text_that_is_no_checkpoint_of_this_log_is_refused(text: str) -> None:
    signer = Signer(ORIGIN, SEED)
    with pytest.raises(NoteInvalid):
        Verifier(signer.vkey).open(signer.sign(text.encode()))


def test_another_key_of_the_same_name_is_refused() -> None:
    note, _ = signed()
    with pytest.raises(NoteInvalid):
        Verifier(Signer(ORIGIN, bytes(32)).vkey).open(note)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "one",
        "one+two",
        "one+00000000+AAAA",
        VKEY.replace("c74f20a3", "c74f20a4"),
        VKEY.replace("Peter", "Peder"),
        VKEY.replace("c74f20a3", "C74F20A3"),
        VKEY + "=",
        VKEY + " ",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "\ud800+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_a_malformed_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(NoteInvalid):
        Verifier(vkey)
