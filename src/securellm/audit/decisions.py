"""The decisions about requests that the log holds, newest first, with the questions that policy was asked."""

from pathlib import Path

import msgspec

from securellm.audit.model import PolicyQuestion, RecordType
from securellm.audit.search import born_us
from securellm.audit.tree import leaf_hash
from securellm.core.surfaces import Surface
from securellm.storage import open_readonly

PIECE = 1_000
"""Records that one step looks at. Only where all of them are too old the rest is: clocks are set, batches come late."""


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a gate decided about one request."""

    request_id: str
    tenant: str
    principal: str
    key_id: str
    surface: Surface
    model: str | None
    errand: str | None
    code: str | None
    """Why it was refused; None for a request that was let through."""
    policy_version: str
    rules: tuple[str, ...]
    asked: tuple[PolicyQuestion, ...]
    """Empty where policy was not asked, or by a release that did not write it down."""
    from_us: int | None
    """When the request came; None where its id does not say. It was decided then or later."""
    until_us: int
    """When it was recorded. It was decided by then."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What one step found."""

    decisions: tuple[Decision, ...]
    damaged: int
    """Records that are not what was written, are another release's, or are missing: whose they are is not known."""
    unknown_callers: int
    """Requests that were refused before it was known whose they are."""
    looked_at: int
    before: int | None
    """Where the next step begins; None when nothing older can be wanted."""


class _Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The members of an INTENT or DENY that say what was decided."""

    type: str
    at: int
    request_id: str = ""
    tenant: str | None = None
    principal: str | None = None
    key_id: str | None = None
    surface: Surface | None = None
    model: str | None = None
    errand: str | None = None
    code: str | None = None
    policy_version: str | None = None
    rules: tuple[str, ...] = ()
    asked: tuple[PolicyQuestion, ...] = ()
    count: int = 0
    admin: bool = False


_row = msgspec.json.Decoder(_Row).decode
_TYPES = (RecordType.INTENT, RecordType.DENY)


def decisions(
    path: Path, *, tenant: str | None, since_us: int | None = None, before: int | None = None, limit: int
) -> Step:
    """Up to `limit` decisions about requests of `tenant` (None: of all), older than position `before`. Blocking.

    Each record is compared with its own digest; that the log is whole and signed only `verify` says. Raises
    `StorageDamaged`.
    """
    with open_readonly(path) as connection:
        row = connection.execute("SELECT max(seq) FROM records").fetchone()
        high = int(row[0] or 0) if before is None else before - 1
        entries = connection.execute(
            "SELECT seq, entry, leaf FROM records WHERE seq <= ? ORDER BY seq DESC LIMIT ?", (high, PIECE)
        ).fetchall()
    found: list[Decision] = []
    damaged, unknown, late = 0, 0, 0
    position = high + 1
    for seq, entry, leaf in entries:
        damaged += position - seq - 1
        position = seq
        read = _read(entry, leaf)
        if read is None:
            damaged += 1
            continue
        if since_us is not None and read.at < since_us:
            late += 1
            continue
        if read.type not in _TYPES or read.admin:
            continue
        if read.count:
            unknown += read.count
        elif read.surface is not None and read.tenant is not None and tenant in (None, read.tenant):
            found.append(_decision(read, read.tenant, read.surface))
            if len(found) == limit:
                break
    else:
        if len(entries) < PIECE:
            damaged, position = damaged + position - 1, 1
    return Step(
        decisions=tuple(found),
        damaged=damaged,
        unknown_callers=unknown,
        looked_at=high + 1 - position,
        before=position if position > 1 and late < PIECE else None,
    )


def _read(entry: object, leaf: object) -> _Row | None:
    """None for what is not as it was written. A damaged row can hold a value of any type."""
    if not isinstance(entry, bytes) or leaf_hash(entry) != leaf:
        return None
    try:
        return _row(entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _decision(row: _Row, tenant: str, surface: Surface) -> Decision:
    return Decision(
        request_id=row.request_id,
        tenant=tenant,
        principal=row.principal or "",
        key_id=row.key_id or "",
        surface=surface,
        model=row.model,
        errand=row.errand,
        code=row.code,
        policy_version=row.policy_version or "",
        rules=row.rules,
        asked=row.asked,
        from_us=born_us(row.request_id),
        until_us=row.at,
    )
