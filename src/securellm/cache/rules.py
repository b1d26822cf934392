"""Pure decisions of the cache: what an answer depends on, who may share one, and what makes a request the same."""

import hashlib
import hmac
import re

from securellm.cache.model import CacheFacts, CacheKey
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface

_IDEMPOTENCY_KEY = re.compile(r"[ -~]{1,255}", re.ASCII)
_DIRECTIVES = frozenset({"no-store", "no-cache"})


def cache_key(
    *,
    tenant: str,
    surface: Surface,
    model: str,
    body: bytes,
    bundle: str,
    guard_pack: str,
    price_version: str,
) -> CacheKey:
    """The digest under which an answer is kept. `body` is the canonical request without transport-only members."""
    digest = hashlib.sha256(b"securellm-bridge exact cache v1")
    for part in (tenant, surface.value, model, bundle, guard_pack, price_version):
        _add(digest, part.encode("utf-8", "surrogatepass"))
    _add(digest, body)
    return CacheKey(digest.digest())


def _add(digest: "hashlib._Hash", part: bytes) -> None:
    # The length goes first, so that no two lists of parts are written alike.
    digest.update(len(part).to_bytes(8, "big"))
    digest.update(part)


def deterministic(*, surface: Surface, temperature: float | None, tools: bool) -> bool:
    """Whether equal requests may share an answer: embeddings always, generation only at an explicit temperature 0."""
    return surface is Surface.EMBEDDINGS or (temperature is not None and temperature == 0 and not tools)


def recallable(facts: CacheFacts) -> bool:
    """Whether the request may be answered from the cache."""
    return facts.deterministic and not facts.stream and not facts.redacted and not _directives(facts.control)


def cacheable(facts: CacheFacts) -> bool:
    """Whether the request's answer may be kept. `no-cache` asks for a fresh answer, and may replace the kept one."""
    return (
        facts.deterministic and not facts.stream and not facts.redacted and _directives(facts.control) <= {"no-cache"}
    )


def _directives(control: str) -> frozenset[str]:
    """The caller's wishes; one we do not know is taken as the strictest."""
    words = (word.strip().lower() for word in control.split(","))
    return frozenset(word if word in _DIRECTIVES else "no-store" for word in words if word)


def idempotency_secret(pepper: bytes) -> bytes:
    """The key of the digests below. Without one, whoever reads the log could try out names and prompts on them."""
    return hmac.digest(pepper, b"securellm-bridge: idempotency keys, v1", hashlib.sha256)


def idempotency_key(name: str, *, secret: bytes, tenant: str, principal: str) -> bytes:
    """The digest of what a caller calls its request. Raises Refusal (INVALID_HEADER) for what no name can be.

    Each principal has its own names: another's request is neither found, nor told from one that never was.
    """
    if _IDEMPOTENCY_KEY.fullmatch(name) is None:
        raise Refusal(
            Code.INVALID_HEADER, "idempotency-key is not 1 to 255 printable ASCII characters", param="idempotency-key"
        )
    return _keyed(
        secret,
        b"key",
        tenant.encode("utf-8", "surrogatepass"),
        principal.encode("utf-8", "surrogatepass"),
        name.encode("ascii"),
    )


def fingerprint(*, secret: bytes, surface: Surface, model: str, stream: bool, asked: bytes) -> bytes:
    """The digest of all that an answer depends on and a caller says: `asked` is the body and what travels beside it."""
    manner = b"stream" if stream else b"whole"
    return _keyed(secret, b"request", surface.value.encode(), model.encode("utf-8", "surrogatepass"), manner, asked)


def _keyed(secret: bytes, *parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        _add(digest, part)
    return hmac.digest(secret, digest.digest(), hashlib.sha256)
