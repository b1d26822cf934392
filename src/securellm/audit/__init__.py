"""What happened: an append-only, hash-chained, signed log of every request, refusal and administrative act."""

from securellm.audit.decisions import Decision, decisions
from securellm.audit.export import export, tail, verifier_key
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
from securellm.audit.search import Found, Wanted, born_us, search, story
from securellm.audit.shipping import LogSource
from securellm.audit.verify import Observer, Report, verify

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
