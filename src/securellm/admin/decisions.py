"""The resource /admin/v1/decisions: what was decided for one request, and by what."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Path
from pydantic import BaseModel

from securellm.admin.calls import CurrentCall, missing
from securellm.admin.moments import moment_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Ports
from securellm.audit import Wanted, story
from securellm.identity import Permission
from securellm.storage import in_thread

DecisionId = Annotated[str, Path(pattern=r"^(dec|req)_[0-9a-z]{26}$", description="Of a decision, or of a request.")]
_BEGINNINGS = ("INTENT", "DENY")


class DecisionView(BaseModel):
    """What was decided for a request. Its content was never kept."""

    request_id: str
    decision_ids: list[str]
    at: datetime | None
    tenant: str | None
    key_id: str | None
    principal: str | None
    surface: str
    model: str | None
    allowed: bool
    code: str | None
    reason: str | None
    policy_version: str | None
    guard_version: str | None
    price_version: str | None
    findings: list[dict[str, Any]]
    status: str | None
    records: list[dict[str, Any]]


def add_decisions(app: FastAPI, ports: Ports) -> None:
    """Serve the resource from the audit log."""

    @app.get(
        f"{API_ROOT}/decisions/{{decision_id}}",
        operation_id="get_decision",
        tags=["decisions"],
        openapi_extra=asks(Permission.DECISIONS_READ, of="tenant"),
    )
    async def get_decision(call: CurrentCall, decision_id: DecisionId) -> DecisionView:
        """What was decided for a request, found by the id that its answer carried."""
        request_id = f"req_{decision_id.partition('_')[2]}"
        records = await in_thread(lambda: story(ports.audit, request_id, Wanted()))
        # What was refused on the admin listener has no surface.
        begun = (record for record in records if record["type"] in _BEGINNINGS and "surface" in record)
        first = next(begun, None)
        if first is None:
            call.allow_nothing()
            raise missing("no decision has this id")
        call.allow_or_hide(first.get("tenant"), "decision")
        await call.looked("decisions", request_id, tenant=first.get("tenant"))
        last = next((record for record in reversed(records) if record["type"] == "OUTCOME"), None)
        return _view(request_id, first, last, records)


def _view(
    request_id: str,
    first: Mapping[str, Any],
    last: Mapping[str, Any] | None,
    records: tuple[dict[str, Any], ...],
) -> DecisionView:
    denied = first["type"] == "DENY"
    end = first if denied else last or {}
    decisions = first.get("decision_ids") or ([first["decision_id"]] if first.get("decision_id") else [])
    return DecisionView(
        request_id=request_id,
        decision_ids=list(decisions),
        at=moment_of(first["at"]),
        tenant=first.get("tenant"),
        key_id=first.get("key_id"),
        principal=first.get("principal"),
        surface=first["surface"],
        model=first.get("model"),
        allowed=not denied,
        code=end.get("code"),
        reason=end.get("reason"),
        policy_version=first.get("policy_version"),
        guard_version=first.get("guard_version"),
        price_version=first.get("price_version"),
        findings=list(first.get("findings") or ()),
        status=end.get("status"),
        records=list(records),
    )
