"""The resource /admin/v1/audit/records: what happened, newest first, as the log has it."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import AwareDatetime, BaseModel, Field

from securellm.admin.calls import CurrentCall
from securellm.admin.moments import micros_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Ports
from securellm.admin.shapes import ListedOfTenant
from securellm.audit import RecordType, Wanted, search, story
from securellm.core.errors import Code, Refusal
from securellm.identity import Permission
from securellm.storage import in_thread

_PRINCIPAL = r"^(user|service|key):[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class ListRecords(ListedOfTenant):
    """Which records to find."""

    type: Annotated[tuple[RecordType, ...], Field(max_length=16, description="Empty is every type.")] = ()
    since: AwareDatetime | None = None
    until: Annotated[AwareDatetime | None, Field(description="The first moment that is too late.")] = None
    principal: Annotated[str | None, Field(pattern=_PRINCIPAL, description="Who asked, or who changed.")] = None
    request_id: Annotated[str | None, Field(pattern=r"^req_[0-9a-z]{26}$", description="Only this request.")] = None


class RecordList(BaseModel):
    """Some records; `next_cursor` goes on, even where this step found nothing, until it is null."""

    data: Annotated[
        list[dict[str, Any]], Field(description="As docs/reference/audit-records.schema.json describes them.")
    ]
    next_cursor: str | None


def add_audit(app: FastAPI, ports: Ports) -> None:
    """Serve the resource, off the loop and without a write."""

    @app.get(
        f"{API_ROOT}/audit/records",
        operation_id="list_audit_records",
        tags=["audit"],
        openapi_extra=asks(Permission.AUDIT_READ, of="tenant"),
    )
    async def list_audit_records(call: CurrentCall, asked: Annotated[ListRecords, Query()]) -> RecordList:
        """Find records, newest first. Each answer looks at a bounded part of the log. The search is itself recorded."""
        tenant = call.among(asked.tenant)
        query = {
            "tenant": tenant,
            "types": ",".join(sorted(asked.type)),
            "since": _text(asked.since),
            "until": _text(asked.until),
            "principal": asked.principal,
            "request_id": asked.request_id,
        }
        after = call.after(asked.cursor, **query)
        wanted = Wanted(
            tenant=tenant,
            types=frozenset(asked.type) or None,
            principal=asked.principal,
            since_us=_bound("since", asked.since),
            until_us=_bound("until", asked.until),
        )
        request_id = asked.request_id
        if request_id is not None:
            await call.looked("audit/records", request_id, tenant=tenant)
            records = await in_thread(lambda: story(ports.audit, request_id, wanted))
            return RecordList(data=list(records), next_cursor=None)
        if after is None:
            # A cursor goes on with what has been recorded as begun.
            await call.looked("audit/records", None, tenant=tenant)
        before = None if after is None else int(after)
        found = await in_thread(lambda: search(ports.audit, wanted, before=before, limit=asked.limit))
        cursor = None if found.before is None else call.cursor(str(found.before), **query)
        return RecordList(data=list(found.records), next_cursor=cursor)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _bound(param: str, moment: datetime | None) -> int | None:
    if moment is None:
        return None
    micros = micros_of(moment)
    if micros < 0:
        raise Refusal(Code.INVALID_REQUEST, "nothing was recorded before 1970", param=param)
    return micros
