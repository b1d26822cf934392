"""The records of the log: one noun for each thing that can happen, and the JSON Schema that readers rely on.

Amounts are nano-units of `currency`, durations are microseconds; there are no floats. Money and identity of a request
stand in its INTENT; later records of the request carry its `request_id`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

import msgspec

from securellm.core.batches import Workload
from securellm.core.canonical import Canonical
from securellm.core.errors import Code
from securellm.core.kept import Kept
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage

VERSION = 1
"""Of the entry's shape; a reader refuses versions it does not know."""

GENESIS = "0" * 64
"""What the first entry names as its predecessor."""

_LONGEST_TEXT = 512
_LONGEST_LIST = 128


class RecordType(StrEnum):
    BOOT = "BOOT"
    CONFIG = "CONFIG"
    KEY = "KEY"
    ADMIN = "ADMIN"
    READ = "READ"
    INTENT = "INTENT"
    ATTEMPT = "ATTEMPT"
    OUTCOME = "OUTCOME"
    DENY = "DENY"


class OutcomeStatus(StrEnum):
    OK = "ok"
    CACHED = "cached"
    REPLAYED = "replayed"
    REFUSED = "refused"
    FAILED = "failed"
    TRUNCATED = "truncated"
    CLIENT_DISCONNECTED = "client_disconnected"
    UNKNOWN = "unknown"


class FindingCount(msgspec.Struct, frozen=True, kw_only=True):
    """How often a guard rule found something, and what was done; never what it found."""

    type: str
    rule: str
    action: str
    count: int


class ScreeningFacts(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """What policies see of a screening; nothing where it found nothing."""

    injection: int = 0
    """The highest score of an attempt at injection, rounded up as policies see it."""
    findings: tuple[str, ...] = ()
    """The types of what was found."""


class PolicyQuestion(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """One question that policy was asked, so that it can be asked again: what its record does not say elsewhere.

    Who asks, and in which hours, stands in the record; a member that is left out is as if nothing were known of it.
    """

    model: str | None = None
    """Of the requests in a batch, asked on `surface`; left out, the record's own model or errand is meant."""
    surface: Surface | None = None
    stream: bool = False
    owner: str | None = None
    """Whom the key acts for."""
    project: str | None = None
    roles: tuple[str, ...] = ()
    channel: str = "api"
    providers: tuple[str, ...] = ()
    """Who could serve the model."""
    needs: tuple[str, ...] = ()
    approved_by: int = 0
    data_class: int | None = None
    region: str | None = None
    residency: str | None = None
    budget_state: str | None = None
    screened: ScreeningFacts | None = None
    """Left out where nothing had been screened."""


class IdempotencyKey(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's own name for a request. Of the name and of what was asked stand keyed digests only."""

    key: str
    """HMAC-SHA256 of tenant, principal and name, in hex."""
    fingerprint: str
    """HMAC-SHA256 of all that the answer depends on, in hex."""
    expires_us: int
    """When the name is forgotten: microseconds since the Unix epoch (UTC)."""


class Corrected(msgspec.Struct, frozen=True, kw_only=True):
    """What an earlier batch did cost; what was presumed for it and is more than that has returned."""

    request_id: str
    """The request that began it."""
    batch: str
    """The provider's id of it."""
    settled: int
    usage: Usage = Usage()
    """All of its requests together."""
    price_version: str


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every noun below is. Text from callers may stand in any field: `fields` makes it safe to write."""

    @property
    def type(self) -> RecordType:
        return RecordType(str(self.__struct_config__.tag))

    @property
    def event(self) -> str | None:
        """The name under which log collectors know this record, where it has one."""
        return None

    def fields(self) -> dict[str, Canonical]:
        """The record's members, `type` and `event` included: long text clipped, lone surrogates replaced.

        Raises ValueError on a float.
        """
        members: dict[str, Any] = msgspec.to_builtins(self)
        for name, value in members.items():
            kind = type(value)
            if kind is int or value is None or (kind is str and len(value) <= _LONGEST_TEXT and value.isascii()):
                continue
            members[name] = _writable(value)
        if self.event is not None:
            members["event"] = self.event
        return members


class Boot(Record, frozen=True, kw_only=True, tag="BOOT"):
    """A gateway started."""

    version: str
    config_digest: str
    snapshot: str
    startup_code: tuple[str, ...] = ()
    """Files whose code ran before the gateway's and that nobody admitted, each with its SHA-256."""


class ConfigChange(Record, frozen=True, kw_only=True, tag="CONFIG"):
    """The configuration was read again and replaced."""

    actor: str
    config_digest: str
    snapshot: str


class KeyChange(Record, frozen=True, kw_only=True, tag="KEY"):
    """An operator changed a virtual key."""

    action: Literal["create", "revoke", "rotate", "update"]
    key_id: str
    tenant: str
    actor: str


class AdminChange(Record, frozen=True, kw_only=True, tag="ADMIN"):
    """An operator changed the control plane; of what was and what is stand digests only."""

    action: str
    """Such as `create`, `replace`, `delete`, `approve`."""
    resource: str
    """The kind of thing, as the admin API's path names it."""
    resource_id: str
    tenant: str | None
    """None is the installation itself."""
    actor: str
    request_id: str
    client_ip: str | None = None
    before: str | None = None
    """SHA-256 of the canonical JSON before the change; None where there was nothing."""
    after: str | None = None
    """SHA-256 of the canonical JSON after the change; None where nothing is left."""
    approval: str | None = None
    """The proposal that a second person approved."""
    break_glass: str | None = None
    """Why one person alone did on the host what takes two."""
    alone: bool = False
    """One person did what takes two wherever there are two."""
    undone: bool = False
    """The change of a former record with this request id could not be stored after all."""


class Intent(Record, frozen=True, kw_only=True, tag="INTENT"):
    """A request passed every gate and is about to cost something: the reservation."""

    request_id: str
    trace_id: str
    tenant: str
    key_id: str
    principal: str
    surface: Surface
    model: str
    provider: str
    upstream_model: str
    errand: str | None = None
    """What is asked of things that a provider keeps, where no model is asked: `model`, `upstream_model` are empty."""
    names: tuple[str, ...] = ()
    """The ids of those things."""
    route: tuple[str, ...]
    """Every attempt the plan allows, in order, as `provider/model`; of an errand as `provider`."""
    stream: bool
    message_count: int
    client_ip: str | None
    policy_version: str
    """Of the allow-lists, then the hashes of the policy bundles in force."""
    rules: tuple[str, ...] = ()
    """The ids of the rules and policies that permitted it."""
    asked: tuple[PolicyQuestion, ...] = ()
    """What policy was asked; of a batch, also about each model that its requests ask."""
    price_version: str
    guard_version: str
    decision_ids: tuple[str, ...] = ()
    findings: tuple[FindingCount, ...] = ()
    output_cap: int | None
    period: str
    """The UTC month the money belongs to, such as `2026-11`."""
    currency: str
    hold: int
    cache: Literal["miss", "bypass"]
    idempotency: IdempotencyKey | None = None

    @property
    def event(self) -> str:
        return "request_received"


class Attempt(Record, frozen=True, kw_only=True, tag="ATTEMPT"):
    """A former attempt failed and another is about to cost something."""

    request_id: str
    number: int
    """Counted from 1; an ATTEMPT record is made for the second and later ones."""
    provider: str
    upstream_model: str
    reason: Code
    provider_code: str | None = None
    """The provider's own name for the former attempt's failure."""
    presumed: int
    """What of the former hold stays presumed spent."""
    hold: int


class Outcome(Record, frozen=True, kw_only=True, tag="OUTCOME"):
    """A request with an INTENT ended, or was found unfinished at start (`unknown`)."""

    request_id: str
    status: OutcomeStatus
    http_status: int | None = None
    code: Code | None = None
    reason: str | None = None
    """Free of content and secrets."""
    provider_code: str | None = None
    """The provider's own name for its failure."""
    provider: str | None = None
    model_served: str | None = None
    finish: str | None = None
    attempts: int
    usage: Usage = Usage()
    settled: int
    presumed: int
    cost_known: bool
    duration_us: int | None = None
    first_byte_us: int | None = None
    findings: tuple[FindingCount, ...] = ()
    changes: tuple[str, ...] = ()
    """What the gateway changed in the request that was sent, by the names of a closed list."""
    kept: tuple[Kept, ...] = ()
    """What the provider keeps from now on, and for this tenant alone."""
    gone: tuple[str, ...] = ()
    """The ids of what it keeps for this tenant no more."""
    workload: Workload | None = None
    """What the batch asks for whose file or answers are `kept`, or the batch that is kept itself."""
    pledged: str | None = None
    """The provider's id of what it goes on doing. `presumed` stands for it until a later OUTCOME corrects it."""
    corrects: Corrected | None = None
    """What an earlier batch of the tenant did cost, in the place of what was presumed for it."""
    answer_of: str | None = None
    """Of an answer given again (`cached`, `replayed`): the request that was really sent."""
    key_freed: bool = False
    """Nothing can have been billed: the request's idempotency key may be used again."""

    @property
    def event(self) -> str:
        delivered = self.status in (OutcomeStatus.OK, OutcomeStatus.CACHED, OutcomeStatus.REPLAYED)
        return "response_sent" if delivered else "request_failed"

    def fields(self) -> dict[str, Canonical]:
        members = super().fields()
        members["prompt_tokens"] = self.usage.prompt_tokens
        members["completion_tokens"] = self.usage.completion_tokens
        members["total_tokens"] = self.usage.total_tokens
        return members


class Denied(Record, frozen=True, kw_only=True, tag="DENY"):
    """A gate refused a request before it could cost anything."""

    request_id: str
    trace_id: str | None = None
    tenant: str | None = None
    key_id: str | None = None
    principal: str | None = None
    surface: Surface
    model: str | None = None
    errand: str | None = None
    """What was asked of things that a provider keeps."""
    code: Code
    reason: str
    policy_version: str | None = None
    """Of the allow-lists, then the hashes of the policy bundles in force; None before policy was asked."""
    rules: tuple[str, ...] = ()
    """The ids of the policies that forbade it, or of those that asked for an approval."""
    asked: tuple[PolicyQuestion, ...] = ()
    """What policy was asked, where it was policy that refused."""
    decision_id: str | None = None
    client_ip: str | None
    findings: tuple[FindingCount, ...] = ()

    @property
    def event(self) -> str:
        return "denied"


class AdminRead(Record, frozen=True, kw_only=True, tag="READ"):
    """An operator looked at what is about others: records, decisions, what is kept of a person."""

    resource: str
    """The kind of thing, as the admin API's path names it."""
    resource_id: str | None
    """None is a list."""
    tenant: str | None
    """Whose things; None is everybody's."""
    actor: str
    request_id: str
    client_ip: str | None = None


class AdminDenied(Record, frozen=True, kw_only=True, tag="DENY"):
    """The admin listener refused somebody it knows. Whom it does not know it counts, as `DeniedAggregate`."""

    request_id: str
    tenant: str | None
    """Where it was refused, if the caller may look there; else the caller's own. None is the installation itself."""
    principal: str
    method: str
    route: str | None
    """The template of the path, such as `/admin/v1/keys/{key_id}`; None where nothing is served."""
    names: tuple[str, ...] = ()
    """The ids that the path names, as far as they have the shape of one."""
    permission: str | None = None
    """What was asked for; None before that was known, and where it takes none."""
    asked_tenant: str | None = None
    """The tenant that the caller named, whether or not there is such a one."""
    code: Code
    reason: str
    client_ip: str | None
    times: int = 1
    """Refusals of this caller with this code in the same second, of which this was the first."""

    @property
    def event(self) -> str:
        return "denied"


class DeniedAggregate(Record, frozen=True, kw_only=True, tag="DENY"):
    """Unauthenticated refusals of one second, one cause and one network."""

    count: int
    network: str
    code: Code
    admin: bool = False
    """On the admin listener."""

    @property
    def event(self) -> str:
        return "denied"


RECORDS: tuple[type[Record], ...] = (
    Boot,
    ConfigChange,
    KeyChange,
    AdminChange,
    AdminRead,
    Intent,
    Attempt,
    Outcome,
    Denied,
    AdminDenied,
    DeniedAggregate,
)

ENVELOPE: Mapping[str, Mapping[str, object]] = {
    "v": {"const": VERSION},
    "seq": {"type": "integer", "minimum": 1, "description": "The position in the log, from 1, without gaps."},
    "prev": {
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "SHA-256 of the previous entry's bytes; zeros in the first.",
    },
    "at": {"type": "integer", "description": "Microseconds since the Unix epoch (UTC)."},
    "writer": {"type": "string", "description": "The name of the process that wrote the entry."},
    "epoch": {"type": "integer", "minimum": 1, "description": "Rises each time the log is opened for writing."},
}
"""What the log itself adds to every record."""

_DERIVED: Mapping[type[Record], Mapping[str, Mapping[str, object]]] = {
    Intent: {"event": {"const": "request_received"}},
    Outcome: {
        "event": {"enum": ["response_sent", "request_failed"]},
        "prompt_tokens": {"type": "integer"},
        "completion_tokens": {"type": "integer"},
        "total_tokens": {"type": "integer"},
    },
    Denied: {"event": {"const": "denied"}},
    AdminDenied: {"event": {"const": "denied"}},
    DeniedAggregate: {"event": {"const": "denied"}},
}

_SPARSE = frozenset({"PolicyQuestion", "ScreeningFacts"})
"""Whose members stand there only where they say something."""


def record_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of one exported line; published as docs/reference/audit-records.schema.json."""
    shapes, definitions = msgspec.json.schema_components(RECORDS, ref_template="#/$defs/{name}")
    for shape, record in zip(shapes, RECORDS, strict=True):
        definition = definitions[str(shape["$ref"]).rpartition("/")[2]]
        definition["properties"] |= {**ENVELOPE, **_DERIVED.get(record, {})}
    for definition in definitions.values():
        for member in definition.get("properties", {}).values():
            member.pop("default", None)
        if "properties" in definition:
            if definition["title"] not in _SPARSE:
                definition["required"] = sorted(definition["properties"])
            definition["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Audit record of SecureLLM Bridge",
        "description": "One line of `securellm audit export`. Amounts are nano-units of the currency.",
        "oneOf": list(shapes),
        "$defs": definitions,
    }


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            value = value[: _LONGEST_TEXT - 1] + "…"
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value[:_LONGEST_LIST]]
    if isinstance(value, dict):
        return {name: _writable(item) for name, item in value.items()}
    if isinstance(value, float):
        raise ValueError("a record holds no float")
    return value
