"""What happened: an append-only, hash-chained, signed log of every request, refusal and administrative act."""

from securellm.audit.export import export, tail, verifier_key
from securellm.audit.log import SCHEMA, AuditLog
from securellm.audit.model import (
    AdminChange,
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
    Record,
    RecordType,
    record_schema,
)
from securellm.audit.note import public_key
from securellm.audit.search import Found, Wanted, born_us, search, story
from securellm.audit.shipping import LogSource
from securellm.audit.verify import Observer, Report, verify

__all__ = [
    "SCHEMA",
    "AdminChange",
    "Attempt",
    "AuditLog",
    "Boot",
    "ConfigChange",
    "Corrected",
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
    "Record",
    "RecordType",
    "Report",
    "Wanted",
    "born_us",
    "export",
    "public_key",
    "record_schema",
    "search",
    "story",
    "tail",
    "verifier_key",
    "verify",
]
