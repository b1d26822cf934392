"""OpenAI's batches: a file of requests, answered when somebody looks, in a file of answers."""

import json
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from tests.upstream import chat, embeddings, moderations, responses
from tests.upstream.answer import Answer, Ask, check, need
from tests.upstream.behaviour import STANDARD, read_mark
from tests.upstream.envelopes import envelope
from tests.upstream.faces import Refused
from tests.upstream.files import keep, page
from tests.upstream.memory import Batch
from tests.upstream.speech import write

_ENDPOINTS: dict[str, Callable[[Ask], Answer]] = {
    "/v1/chat/completions": chat.answer,
    "/v1/responses": responses.answer,
    "/v1/embeddings": embeddings.answer,
    "/v1/moderations": moderations.answer,
}
_ENDS = ("completed", "failed", "cancelled", "expired")


def create(ask: Ask) -> Answer:
    """Take a batch in; nothing is answered yet."""
    body = ask.body
    source = need(body, "input_file_id", str)
    endpoint = need(body, "endpoint", str)
    if endpoint not in _ENDPOINTS:
        raise Refused(400, f"Invalid value: '{endpoint}'.", param="endpoint", code="invalid_value")
    if need(body, "completion_window", str) != "24h":
        raise Refused(400, "Invalid value for 'completion_window'.", param="completion_window", code="invalid_value")
    file = ask.memory.files.get(source)
    if file is None or file.value["purpose"] != "batch":
        raise Refused(400, f"Invalid 'input_file_id': no batch file '{source}'.", param="input_file_id")
    requests, problems = _read(file.content, endpoint)
    name = f"batch_fake{ask.number:08d}"
    value = {
        "id": name,
        "object": "batch",
        "endpoint": endpoint,
        "errors": None,
        "input_file_id": source,
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": int(time.time()),
        "expires_at": int(time.time()) + 86_400,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": check(body, "metadata", dict),
    }
    answered = Answer(body=write(value))
    if problems:
        value["errors"] = {"object": "list", "data": problems}
    ask.memory.batches[name] = Batch(value=value, requests=requests)
    return answered


def get(ask: Ask) -> Answer:
    """A batch as it is now: it gets on each time somebody looks, and is billed when it is done."""
    batch = _batch(ask)
    value, bill = batch.value, {}
    if value["status"] == "cancelling":
        value |= {"status": "cancelled", "cancelled_at": int(time.time())}
    elif value["status"] == "validating" and value["errors"] is not None:
        value |= {"status": "failed", "failed_at": int(time.time())}
    elif value["status"] == "validating":
        counts = {"total": len(batch.requests), "completed": 0, "failed": 0}
        value |= {"status": "in_progress", "in_progress_at": int(time.time()), "request_counts": counts}
    elif value["status"] == "in_progress":
        bill = _run(ask, batch)
    return Answer(body=write(value), bill=bill)


def cancel(ask: Ask) -> Answer:
    """Stop a batch that is not done."""
    value = _batch(ask).value
    if value["status"] in _ENDS:
        raise Refused(409, f"Cannot cancel a batch with status '{value['status']}'.")
    value |= {"status": "cancelling", "cancelling_at": int(time.time())}
    return Answer(body=write(value))


def listed(ask: Ask) -> Answer:
    """Every batch, newest first."""
    return Answer(body=write(page(ask, [batch.value for batch in reversed(ask.memory.batches.values())])))


def _batch(ask: Ask) -> Batch:
    batch = ask.memory.batches.get(ask.place["id"])
    if batch is None:
        raise Refused(404, f"No batch found with id '{ask.place['id']}'.")
    return batch


def _read(content: bytes, endpoint: str) -> tuple[list[dict[str, Any]], list[dict[str, object]]]:
    """The requests of a file, and what is wrong with it."""
    requests: list[dict[str, Any]] = []
    problems: list[dict[str, object]] = []
    seen: set[str] = set()

    def wrong(line: int, code: str, message: str) -> None:
        problems.append({"code": code, "line": line, "message": message, "param": None})

    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            wrong(number, "invalid_json_line", "This line is not parseable as valid JSON.")
            continue
        if not isinstance(row, dict) or not isinstance(row.get("body"), dict):
            wrong(number, "missing_required_parameter", "Missing required parameter: 'body'.")
        elif row.get("url") != endpoint or row.get("method") != "POST":
            wrong(number, "mismatched_endpoint", "The URL of this request does not match the batch's endpoint.")
        elif row.get("custom_id") in seen or not isinstance(row.get("custom_id"), str):
            wrong(number, "duplicate_custom_id", "The custom_id must be unique.")
        else:
            seen.add(row["custom_id"])
            requests.append(row)
    if not requests and not problems:
        problems.append({"code": "empty_file", "line": None, "message": "The file is empty.", "param": None})
    return requests, problems


def _run(ask: Ask, batch: Batch) -> dict[str, int]:
    """Answer every request; what it all cost."""
    bill: dict[str, int] = {}
    rows: dict[bool, list[bytes]] = {True: [], False: []}
    for number, request in enumerate(batch.requests):
        status, body, cost = _answered(ask, batch.value["endpoint"], request["body"], number)
        for name, spent in cost.items():
            bill[name] = bill.get(name, 0) + spent
        response = {"status_code": status, "request_id": f"req_fake{ask.number:08d}x{number}", "body": body}
        row = {"id": f"batch_req_fake{ask.number:08d}x{number}", "custom_id": request["custom_id"]}
        rows[status == 200].append(write({**row, "response": response, "error": None}) + b"\n")
    for good, name in ((True, "output"), (False, "error")):
        if rows[good]:
            file = keep(ask, f"{batch.value['id']}_{name}.jsonl", b"".join(rows[good]), purpose="batch_output")
            batch.value[f"{name}_file_id"] = file.value["id"]
    counts = {"total": len(batch.requests), "completed": len(rows[True]), "failed": len(rows[False])}
    batch.value |= {"status": "completed", "completed_at": int(time.time()), "request_counts": counts}
    if (batch.value["metadata"] or {}).get("usage") == "told":
        batch.value["usage"] = _told(b"".join(rows[True]))
    return bill


def _told(answers: bytes) -> dict[str, int]:
    """What a provider that says it in the batch itself says of all chat answers together."""
    usages = [json.loads(line)["response"]["body"]["usage"] for line in answers.splitlines()]
    went_in, came_out = (sum(usage[name] for usage in usages) for name in ("prompt_tokens", "completion_tokens"))
    return {"input_tokens": went_in, "output_tokens": came_out, "total_tokens": went_in + came_out}


def _answered(ask: Ask, endpoint: str, body: dict[str, Any], number: int) -> tuple[int, Any, dict[str, int]]:
    model = str(body.get("model", ""))
    how = read_mark(model)[1] or STANDARD
    one = msgspec.structs.replace(
        ask, body={**body, "stream": False}, behaviour=how, model=model, number=ask.number * 1000 + number, place={}
    )
    try:
        if how.status is not None:
            phrase = HTTPStatus(how.status).phrase if how.status in set(HTTPStatus) else "Overloaded"
            raise Refused(how.status, how.message or phrase, code=how.code)
        answer = _ENDPOINTS[endpoint](one)
    except Refused as refused:
        return refused.status, envelope(ask.face, "", refused, request_id=""), {}
    return 200, json.loads(answer.body), answer.bill
