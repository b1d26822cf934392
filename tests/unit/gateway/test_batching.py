"""Requests inside requests: what leaves differs from what came in named places only, and each belongs to its own."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securellm.core.batches import Load, Workload
from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.messages import Attachment, Replacement
from securellm.core.surfaces import Surface
from securellm.gateway.batching import carry, own, refuse_collisions
from securellm.gateway.model import Request
from securellm.ingress.batches import read_message_batch
from securellm.ingress.errands import Sent
from securellm.ingress.files import read_upload
from securellm.providers import ERRANDS, KINDS, Provider
from securellm.transport import Timeouts, parse_base_url


class _Nobody:
    async def send(self, *_: object, **__: object) -> Any:
        raise AssertionError("nothing is sent here")


PROVIDER = Provider(
    id="there",
    kind=KINDS["openai-compatible"],
    base=parse_base_url("http://127.0.0.1:9/v1"),
    credential=None,
    timeouts=Timeouts(connect=1, first_byte=1, idle=1, total=1),
    sender=_Nobody(),
)
SPACE = st.text(" \t", max_size=2)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def upload(data: bytes) -> Request:
    fields = {"purpose": "batch", "file": {"filename": "a", "content_type": "b", "bytes": len(data), "sha256": "c"}}
    file = Attachment(field="file", filename="a", content_type="b", data=data)
    sent = Sent(ERRANDS["files.create"], (), {}, Document(json.dumps(fields).encode()), (file,))
    return read_upload(sent)


def messages(body: bytes) -> Request:
    return read_message_batch(Sent(ERRANDS["message_batches.create"], (), {}, Document(body)))


def workload(surface: Surface = Surface.CHAT) -> Workload:
    load = Load(model="chat", upstream_model="gpt", requests=1, input_tokens=1, longest_input=1, output_tokens=1)
    return Workload(surface=surface, loads=(load,))


def leaving(request: Request, *replacements: Replacement) -> bytes:
    """The file, or the body, as it leaves."""
    body = request.document.text.encode()
    surface = request.speaks or Surface.CHAT
    sent = carry(body, request, replacements, PROVIDER, workload=workload(surface), caps={"chat": None})
    return sent.attachments[0].data if sent.attachments else sent.body


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """JSON as anybody may write it."""
    if isinstance(value, dict):
        inside = ",".join(
            f"{draw(SPACE)}{json.dumps(name)}{draw(SPACE)}:{draw(SPACE)}{draw(written(value[name]))}{draw(SPACE)}"
            for name in value
        )
        return f"{{{inside}}}"
    if isinstance(value, list):
        return "[" + ",".join(f"{draw(SPACE)}{draw(written(each))}{draw(SPACE)}" for each in value) + "]"
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        turn = {"role": "user", "content": draw(TEXT)}
        body = {"model": "chat", "messages": [turn], "max_tokens": 5, "x_unknown": draw(TEXT)}
        line = {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        found.append(draw(written(dict(draw(st.permutations(list(line.items())))))))
    return found


@pytest.mark.requirement("GW-7", "GW-6")
@settings(max_examples=150)
@given(lines())
def test_a_line_leaves_as_it_came_but_for_the_models_name(written_lines: list[str]) -> None:
    data = "\n".join(written_lines).encode()
    left = leaving(upload(data)).decode()
    assert left.endswith("\n")
    for came, goes in zip(written_lines, left[:-1].split("\n"), strict=True):
        said = Document(came.encode())
        start, end = said.span(("body", "model"))
        assert goes == f'{came[:start]}"gpt"{came[end:]}'


@pytest.mark.requirement("GW-7", "GW-6")
@settings(max_examples=100)
@given(st.data())
def test_an_entry_leaves_as_it_came_but_for_the_models_name(data: st.DataObject) -> None:
    texts = data.draw(st.lists(TEXT, min_size=1, max_size=4))
    entries = [
        {
            "custom_id": f"c{number}",
            "params": {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": text}]},
        }
        for number, text in enumerate(texts)
    ]
    body = data.draw(written({"requests": entries}))
    left = Document(leaving(messages(body.encode())))
    before = Document(body.encode())
    expected, at = "", 0
    for number in range(len(entries)):
        start, end = before.span(("requests", number, "params", "model"))
        expected, at = f'{expected}{body[at:start]}"gpt"', end
    assert left.text == expected + body[at:]


def line(custom_id: str, text: str, **members: Any) -> str:
    body = {"model": "chat", "messages": [{"role": "user", "content": text}], **members}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})


def leaf_of(request: Request, text: str) -> int:
    return next(index for index, leaf in enumerate(request.leaves) if leaf.text == text)


@pytest.mark.requirement("GD-1", "GW-7")
def test_a_replacement_changes_the_line_it_was_found_in_and_no_other() -> None:
    request = upload("\n".join((line("a", "secret one"), line("b", "secret two"), line("c", "three"))).encode())
    found = Replacement(leaf=leaf_of(request, "secret two"), start=0, end=6, text="[X]")
    rows = [json.loads(each) for each in leaving(request, found).splitlines()]
    assert [row["body"]["messages"][0]["content"] for row in rows] == ["secret one", "[X] two", "three"]
    assert own(request, [found]) == []


def test_what_is_found_in_the_forms_own_fields_is_the_forms() -> None:
    request = upload(line("a", "one").encode())
    found = Replacement(leaf=leaf_of(request, "batch"), start=0, end=5, text="[X]")
    assert own(request, [found]) == [found]


@pytest.mark.requirement("GD-1")
def test_what_cannot_be_redacted_is_refused_by_its_line() -> None:
    request = upload("\n".join((line("a", "one"), line("person", "two", x_one=1, x_two=2))).encode())
    named = Replacement(leaf=leaf_of(request, "person"), start=0, end=6, text="[X]")
    with pytest.raises(Refusal) as refused:
        refuse_collisions(request, [named])
    assert (refused.value.code, refused.value.param) == (Code.GUARD_BLOCKED, "line 2")
    keys = [Replacement(leaf=leaf_of(request, name), start=0, end=5, text="[X]") for name in ("x_one", "x_two")]
    with pytest.raises(Refusal) as refused:
        refuse_collisions(request, keys)
    assert refused.value.code is Code.GUARD_BLOCKED
    refuse_collisions(request, keys[:1])
