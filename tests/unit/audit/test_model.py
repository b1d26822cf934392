"""The records: published fields, stable names, nothing that could keep one from being written."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.audit.logs import every_kind, intent, opened, outcome, write

from securellm.audit import FindingCount, Record, RecordType, export, record_schema
from securellm.audit.log import _around_the_chain
from securellm.audit.model import ENVELOPE, RECORDS
from securellm.core.canonical import canonical_bytes

PUBLISHED = Path(__file__).parents[3] / "docs" / "reference" / "audit-records.schema.json"


def lines(path: Path, *records: Record) -> list[dict[str, Any]]:
    write(path, records)
    return [json.loads(line) for line in export(path)]


@pytest.mark.requirement("AU-1")
def test_the_published_schema_is_the_one_of_the_code() -> None:
    """After a change: write `json.dumps(record_schema(), indent=2, sort_keys=True)` there, with a newline."""
    assert PUBLISHED.read_text(encoding="utf-8") == json.dumps(record_schema(), indent=2, sort_keys=True) + "\n"


@pytest.mark.requirement("AU-1")
def test_every_exported_line_fits_the_published_schema(tmp_path: Path) -> None:
    published = jsonschema_rs.validator_for(json.loads(PUBLISHED.read_text(encoding="utf-8")))
    written = lines(tmp_path / "audit.db", *every_kind())
    assert {line["type"] for line in written} == set(RecordType)
    assert {type(record) for record in every_kind()} == set(RECORDS)
    for line in written:
        published.validate(line)
        for member in line:
            missing = {name: value for name, value in line.items() if name != member}
            assert not published.is_valid(missing), f"{line['type']} does not need {member}"
        assert not published.is_valid({**line, "surprise": 1})
        assert not published.is_valid({**line, "seq": 1.5})


@pytest.mark.requirement("AU-1")
def test_events_have_the_names_that_collectors_know(tmp_path: Path) -> None:
    written = lines(tmp_path / "audit.db", *every_kind())
    events: dict[str, set[str | None]] = {}
    for line in written:
        events.setdefault(line["type"], set()).add(line.get("event"))
    assert events["INTENT"] == {"request_received"}
    assert events["OUTCOME"] == {"response_sent", "request_failed"}
    assert events["DENY"] == {"denied"}
    assert {line["event"] for line in written if line.get("status") in ("ok", "cached")} == {"response_sent"}


@pytest.mark.requirement("AU-1")
def test_a_request_tells_its_tokens_cost_and_duration(tmp_path: Path) -> None:
    _, ended = lines(tmp_path / "audit.db", intent(), outcome())
    assert (ended["prompt_tokens"], ended["completion_tokens"], ended["total_tokens"]) == (15, 10, 25)
    assert (ended["settled"], ended["presumed"], ended["cost_known"]) == (900, 0, True)
    assert (ended["duration_us"], ended["first_byte_us"]) == (123_456, 45_678)


def test_no_record_names_a_member_of_the_envelope() -> None:
    for record in every_kind():
        assert not record.fields().keys() & ENVELOPE.keys()
        assert record.fields()["type"] == record.type


@pytest.mark.requirement("AU-1")
def test_whatever_a_caller_calls_a_model_the_record_can_be_written(tmp_path: Path) -> None:
    names = ("x" * 5_000_000, "\ud800", 'a"\\\n\0b', "modèle 模型 🦜", "\u2028", "")
    written = lines(tmp_path / "audit.db", *(intent(model=name) for name in names))
    assert [line["model"] for line in written] == ["x" * 511 + "…", "?", *names[2:]]


def test_lists_are_bounded(tmp_path: Path) -> None:
    many = tuple(FindingCount(type="pii", rule=f"r{number}", action="observe", count=1) for number in range(5_000))
    (line,) = lines(tmp_path / "audit.db", msgspec.structs.replace(outcome(), findings=many))
    assert len(line["findings"]) == 128


def test_a_float_is_refused_before_it_reaches_the_journal(tmp_path: Path) -> None:
    with opened(tmp_path / "audit.db") as (writer, log):
        odd = msgspec.structs.replace(outcome(), settled=1.5)
        with pytest.raises(ValueError, match="float"):
            log.appending(odd)
        writer.perform(log.appending(outcome()))
        assert writer.healthy


def test_an_entry_is_its_own_canonical_form(tmp_path: Path) -> None:
    write(tmp_path / "audit.db", every_kind())
    for line in export(tmp_path / "audit.db"):
        entry = line.removesuffix(b"\n")
        assert canonical_bytes(json.loads(entry)) == entry
        assert b"\n" not in entry


@given(st.lists(st.text(st.characters(), max_size=12), min_size=1, max_size=5), st.integers())
def test_whatever_a_record_says_its_bytes_are_the_canonical_ones(texts: list[str], number: int) -> None:
    tricky = ('"prev":""', ',"seq":0,', "\\", *texts)
    record = msgspec.structs.replace(
        intent(model=texts[0]),
        route=tricky,
        decision_ids=tuple(texts),
        tenant=tricky[0],
        trace_id=tricky[1],
        hold=number,
    )
    before, between, after = _around_the_chain({**record.fields(), "v": 1, "at": 2, "writer": "w", "epoch": 3})
    entry = before + b'"prev":"ab"' + between + b'"seq":9' + after
    members = json.loads(entry)
    assert (members["prev"], members["seq"], members["tenant"]) == ("ab", 9, tricky[0])
    assert canonical_bytes(members) == entry
