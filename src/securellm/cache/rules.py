"""Pure decisions of the cache: what an answer depends on, and who may share one."""

import hashlib

from securellm.cache.model import CacheFacts, CacheKey
from securellm.core.surfaces import Surface

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
