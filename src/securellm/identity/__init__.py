"""Who asks: virtual keys, and the proof that one was presented."""

from securellm.identity.model import Identity, IssuedKey, KeyConflict, KeyPage, KeyTable, PepperMismatch, VirtualKey
from securellm.identity.rules import declared_key, digest_of, is_credential
from securellm.identity.service import Identities, KeyRegistry
from securellm.identity.store import SCHEMA, KeyStore

__all__ = [
    "SCHEMA",
    "Identities",
    "Identity",
    "IssuedKey",
    "KeyConflict",
    "KeyPage",
    "KeyRegistry",
    "KeyStore",
    "KeyTable",
    "PepperMismatch",
    "VirtualKey",
    "declared_key",
    "digest_of",
    "is_credential",
]
