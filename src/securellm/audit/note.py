"""Signed notes and checkpoints as C2SP signed-note and tlog-checkpoint write them, with Ed25519 keys."""

import base64
import binascii
import hashlib
import re

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_ORIGIN = re.compile(r"[!-*,-~]+")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteInvalid(ValueError):
    """A note, a checkpoint or a verifier key is malformed, or its signature does not hold."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a log commits to: the head of its tree at a size."""

    origin: str
    size: int
    root: bytes

    def text(self) -> bytes:
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n".encode()


class Signer:
    """Signs notes under the name of a log's origin. `seed` is the Ed25519 private key, 32 bytes."""

    def __init__(self, origin: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._label, self.vkey = _key_names(origin, self._key.public_key().public_bytes_raw())
        """The verifier key: what an auditor is given to check this log with."""
        self._prefix = f"\n— {origin} ".encode()

    def sign(self, text: bytes) -> bytes:
        """The note: `text`, an empty line, one signature line."""
        signature = _base64(self._label + self._key.sign(text)).encode("ascii")
        return text + self._prefix + signature + b"\n"


def public_key(seed: bytes) -> bytes:
    """The 32 raw bytes of the public key of a private one."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


class Verifier:
    """Checks what a `Signer` made, from its verifier key alone. Raises `NoteInvalid` for a malformed key."""

    def __init__(self, vkey: str) -> None:
        parts = vkey.split("+", 2)
        if len(parts) != 3:
            raise NoteInvalid("a verifier key has three parts")
        self.origin = parts[0]
        material = _unbase64(parts[2])
        if len(material) != 33 or material[:1] != _ED25519 or _ORIGIN.fullmatch(self.origin) is None:
            raise NoteInvalid("not an Ed25519 verifier key")
        self.public_key = material[1:]
        self._label, exact = _key_names(self.origin, self.public_key)
        if exact != vkey:
            raise NoteInvalid("the verifier key does not carry its own id")
        self._key = Ed25519PublicKey.from_public_bytes(self.public_key)

    def open(self, note: bytes) -> Checkpoint:
        """The checkpoint of a note that carries this key's signature, no other, in its only spelling."""
        text, gap, line = note.partition(b"\n\n")
        text += b"\n"
        prefix = f"— {self.origin} ".encode()
        if not gap or not line.startswith(prefix) or not line.endswith(b"\n"):
            raise NoteInvalid("not a note signed by this log")
        signature = _unbase64(line[len(prefix) : -1].decode("ascii", "replace"))
        if len(signature) != 68 or signature[:4] != self._label:
            raise NoteInvalid("signed by another key")
        try:
            self._key.verify(signature[4:], text)
        except InvalidSignature:
            raise NoteInvalid("the signature does not hold") from None
        return self._parse(text)

    def _parse(self, text: bytes) -> Checkpoint:
        lines = text.decode("utf-8", "replace").split("\n")
        if len(lines) != 4 or lines[0] != self.origin or _SIZE.fullmatch(lines[1]) is None:
            raise NoteInvalid("not a checkpoint of this log")
        root = _unbase64(lines[2])
        if len(root) != 32:
            raise NoteInvalid("a tree head has 32 bytes")
        return Checkpoint(origin=self.origin, size=int(lines[1]), root=root)


def _key_names(origin: str, public: bytes) -> tuple[bytes, str]:
    material = _ED25519 + public
    label = hashlib.sha256(origin.encode() + b"\n" + material).digest()[:4]
    return label, f"{origin}+{label.hex()}+{_base64(material)}"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _unbase64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteInvalid("not base64") from error
    if _base64(raw) != text:
        raise NoteInvalid("not the canonical base64")
    return raw
