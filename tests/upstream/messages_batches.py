"""Anthropic's batches of messages: requests in the body, answered when somebody looks."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from tests.upstream import messages
from tests.upstream.answer import Answer, Ask, need
from tests.upstream.behaviour import STANDARD, read_mark
from tests.upstream.envelopes import envelope
from tests.upstream.faces import Refused
from tests.upstream.files import page
from tests.upstream.memory import Batch
from tests.upstream.messages_check import check_version
from tests.upstream.speech import write


def create(ask: Ask) -> Answer:
    """Take a batch in; nothing is answered yet."""
    check_version(ask)
    requests = need(ask.body, "requests", list)
    names = [row.get("custom_id") if isinstance(row, dict) else None for row in requests]
    if not requests or len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
        raise Refused(400, "requests: each needs a custom_id of its own")
    if not all(isinstance(row.get("params"), dict) for row in requests):
        raise Refused(400, "requests.0.params: Field required")
    name = f"msgbatch_fake{ask.number:08d}"
    now = datetime.now(UTC)
    value = {
        "id": name,
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": _counts(processing=len(requests)),
        "created_at": now.isoformat(),
        "expires_at": (now + timedelta(days=1)).isoformat(),
        "ended_at": None,
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": None,
    }
    answered = Answer(body=write(value))
    ask.memory.batches[name] = Batch(value=value, requests=requests)
    return answered


def get(ask: Ask) -> Answer:
    """A batch as it is now: the first look finds it ended, and pays for it."""
    batch = _batch(ask)
    bill: dict[str, int] = {}
    if batch.value["processing_status"] == "canceling":
        _end(ask, batch, [_result(row, {"type": "canceled"}) for row in batch.requests])
    elif batch.value["processing_status"] == "in_progress":
        rows: list[bytes] = []
        for number, request in enumerate(batch.requests):
            result, cost = _answered(ask, request["params"], number)
            rows.append(_result(request, result))
            for name, spent in cost.items():
                bill[name] = bill.get(name, 0) + spent
        _end(ask, batch, rows)
    return Answer(body=write(batch.value), bill=bill)


def results(ask: Ask) -> Answer:
    """The answers of an ended batch, a line for each."""
    batch = _batch(ask)
    if batch.value["processing_status"] != "ended":
        raise Refused(404, f"Batch {ask.place['id']} has no available results.")
    body = ask.memory.results[ask.place["id"]]
    return Answer(headers=(("content-type", "application/x-jsonl"),), body=body)


def cancel(ask: Ask) -> Answer:
    """Stop a batch that has not ended."""
    value = _batch(ask).value
    if value["processing_status"] == "in_progress":
        value |= {"processing_status": "canceling", "cancel_initiated_at": datetime.now(UTC).isoformat()}
    return Answer(body=write(value))


def delete(ask: Ask) -> Answer:
    """Forget a batch that has ended."""
    if _batch(ask).value["processing_status"] != "ended":
        raise Refused(400, "Only ended batches can be deleted; cancel it first.")
    del ask.memory.batches[ask.place["id"]]
    return Answer(body=write({"id": ask.place["id"], "type": "message_batch_deleted"}))


def listed(ask: Ask) -> Answer:
    """Every batch, newest first."""
    check_version(ask)
    return Answer(body=write(page(ask, [batch.value for batch in reversed(ask.memory.batches.values())])))


def _batch(ask: Ask) -> Batch:
    check_version(ask)
    batch = ask.memory.batches.get(ask.place["id"])
    if batch is None:
        raise Refused(404, f"Batch {ask.place['id']} not found.")
    return batch


def _counts(**given: int) -> dict[str, int]:
    return {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0, **given}


def _result(request: dict[str, Any], result: dict[str, Any]) -> bytes:
    return write({"custom_id": request["custom_id"], "result": result}) + b"\n"


def _end(ask: Ask, batch: Batch, rows: list[bytes]) -> None:
    ask.memory.results[ask.place["id"]] = b"".join(rows)
    kinds = [json.loads(row)["result"]["type"] for row in rows]
    counts = _counts(**{kind: kinds.count(kind) for kind in kinds})
    url = f"http://{ask.header('host')}/anthropic/v1/messages/batches/{ask.place['id']}/results"
    ended = {"processing_status": "ended", "ended_at": datetime.now(UTC).isoformat(), "results_url": url}
    batch.value |= {**ended, "request_counts": counts}


def _answered(ask: Ask, params: dict[str, Any], number: int) -> tuple[dict[str, Any], dict[str, int]]:
    model = str(params.get("model", ""))
    how = read_mark(model)[1] or STANDARD
    one = msgspec.structs.replace(
        ask, body={**params, "stream": False}, behaviour=how, model=model, number=ask.number * 1000 + number
    )
    try:
        if how.status is not None:
            raise Refused(how.status, how.message or "Refused.")
        answer = messages.answer(one)
    except Refused as refused:
        return {"type": "errored", "error": envelope("anthropic", "messages", refused, request_id="")}, {}
    return {"type": "succeeded", "message": json.loads(answer.body)}, answer.bill
