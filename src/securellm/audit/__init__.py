"""What happened: an append-only, hash-chained, signed log of every request, refusal and administrative act."""

from typing import TYPE_CHECKING

from securellm.audit.decisions import decisions
from securellm.audit.export import export
from securellm.audit.search import search
from securellm.audit.verify import verify

if TYPE_CHECKING:
    from securellm.audit.decisions import Decision
    from securellm.audit.export import tail, verifier_key
    from securellm.audit.log import SCHEMA, AuditLog
    from securellm.audit.model import (
        AdminChange,
        AdminDenied,
        AdminRead,
        Attempt,
        Boot,
        ConfigChange,
        Corrected,
        Denied,
        DeniedAggregate,
        FindingCount,
        IdempotencyKey,
        Intent,
        KeyChange,
        Outcome,
        OutcomeStatus,
        PolicyQuestion,
        Record,
        RecordType,
        ScreeningFacts,
        record_schema,
    )
    from securellm.audit.note import public_key
    from securellm.audit.search import Found, Wanted, born_us, story
    from securellm.audit.shipping import LogSource
    from securellm.audit.verify import Observer, Report
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "SCHEMA",
    "AdminChange",
    "AdminDenied",
    "AdminRead",
    "Attempt",
    "AuditLog",
    "Boot",
    "ConfigChange",
    "Corrected",
    "Decision",
    "Denied",
    "DeniedAggregate",
    "FindingCount",
    "Found",
    "IdempotencyKey",
    "Intent",
    "KeyChange",
    "LogSource",
    "Observer",
    "Outcome",
    "OutcomeStatus",
    "PolicyQuestion",
    "Record",
    "RecordType",
    "Report",
    "ScreeningFacts",
    "Wanted",
    "born_us",
    "decisions",
    "export",
    "public_key",
    "record_schema",
    "search",
    "story",
    "tail",
    "verifier_key",
    "verify",
]
