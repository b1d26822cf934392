"""Logs are JSON lines that no content and no secret can get into, whatever is passed to them."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import structlog

from securellm.core.errors import Code, Refusal
from securellm.secrets import SecretValue
from securellm.telemetry.logs import conceal, configure_logs, logger

CANARY = "canary-of-the-prompt"


class Carrier(msgspec.Struct, frozen=True):
    """A structure that holds content, as requests and replies do."""

    text: str


class Written:
    """What has been logged so far."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.split("\n") if line]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]


@pytest.fixture
def written() -> Iterator[Written]:
    """Logging set up as the process does it, and put back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # What was there is only taken off, not closed: it is pytest's.
    root.handlers.clear()
    found = Written()
    configure_logs(stream=found.stream)
    yield found
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.requirement("OB-3")
def test_every_line_is_one_json_object_that_names_its_component_and_time(written: Written) -> None:
    logger("ingress").info("request", request_id="req_1", trace_id="ab" * 16, status=200, milliseconds=1.5, code=None)
    logger("journal").error("outcome_not_recorded", code="audit_unavailable")
    first, second = written.lines
    assert first.pop("at").endswith("Z")
    assert first == {
        "component": "ingress",
        "event": "request",
        "level": "info",
        "request_id": "req_1",
        "trace_id": "ab" * 16,
        "status": 200,
        "milliseconds": 1.5,
        "code": None,
    }
    assert (second["component"], second["level"]) == ("journal", "error")


@pytest.mark.requirement("OB-3")
def test_a_line_break_in_a_value_begins_no_line(written: Written) -> None:
    logger("test").info("event\n{}", value='a\r\n{"event":"forged"}\u2028')
    assert len(written.text.split("\n")) == 2
    assert written.last["value"] == 'a\r\n{"event":"forged"}\u2028'


@pytest.mark.requirement("OB-3", "SC-2")
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (CANARY.encode(), "[bytes]"),
        (bytearray(CANARY.encode()), "[bytearray]"),
        (ValueError(CANARY), "[ValueError]"),
        (Refusal(Code.GUARD_BLOCKED, CANARY), "[Refusal]"),
        (SecretValue(CANARY), "[SecretValue]"),
        (Carrier(CANARY), "[Carrier]"),
        ({"text": CANARY}, "[dict]"),
        ({CANARY}, "[set]"),
        ([CANARY, CANARY.encode()], "[list]"),
        ((Carrier(CANARY),), "[tuple]"),
        ([[CANARY]], "[list]"),
        ([CANARY] * 65, "[list]"),
        (lambda: CANARY, "[function]"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_could_carry_content_is_written_as_its_type_only(written: Written, value: Any, shown: str) -> None:
    logger("test").error("event", value=value)
    assert written.last["value"] == shown
    assert CANARY not in written.text


@pytest.mark.requirement("OB-3", "SC-2")
@pytest.mark.parametrize("form", ["json", "console"])
def test_an_exception_is_written_as_its_type_without_its_text_or_its_trace(written: Written, form: str) -> None:
    configure_logs(stream=written.stream, form=form)
    log = logger("test")
    try:
        raise KeyError(CANARY)
    except KeyError as error:
        log.exception("one")
        log.error("two", exc_info=error)
        log.error("three", error=error)
        logging.getLogger("library").exception("four")
    assert CANARY not in written.text
    assert "Traceback" not in written.text
    assert written.text.count("KeyError") == 4


@pytest.mark.requirement("OB-3")
def test_plain_values_are_kept_and_long_ones_cut(written: Written) -> None:
    logger("test").info("e" * 600, short="a" * 512, long="b" * 513, many=["c" * 513, 1, None, True], code=Code.TIMEOUT)
    last = written.last
    assert last["event"] == "e" * 512 + "… (600 characters)"
    assert last["short"] == "a" * 512
    assert last["long"] == "b" * 512 + "… (513 characters)"
    assert last["many"] == ["c" * 512 + "… (513 characters)", 1, None, True]
    assert last["code"] == "timeout"


@pytest.mark.requirement("OB-3")
@pytest.mark.parametrize("value", ["\ud800", "a\udfff", float("nan"), float("inf"), 2**80, "\x00\x1b[31m", "ação ✓"])
def test_no_plain_value_can_make_logging_fail(written: Written, value: Any) -> None:
    logger("test").info("event", value=value, values=[value])
    assert written.last["event"] == "event"
    assert "\x1b" not in written.text


@pytest.mark.requirement("OB-3", "SC-2")
def test_the_server_librarys_lines_are_ours_without_their_arguments(written: Written) -> None:
    library = logging.getLogger("uvicorn.error")
    library.error("Exception in %s", CANARY)
    library.warning("first line\nsecond line with %s", CANARY)
    library.warning(Carrier(CANARY))
    library.info("of no interest")
    assert CANARY not in written.text
    assert [line["event"] for line in written.lines] == ["Exception in %s", "first line", "Carrier"]
    assert {line["component"] for line in written.lines} == {"uvicorn.error"}
    assert [line["level"] for line in written.lines] == ["error", "warning", "warning"]


def test_a_level_silences_what_is_below_it(written: Written) -> None:
    configure_logs(stream=written.stream, level="error")
    logger("test").warning("unheard")
    logging.getLogger("library").warning("unheard")
    logger("test").error("heard")
    assert [line["event"] for line in written.lines] == ["heard"]


@pytest.mark.requirement("SC-2")
def test_a_secret_that_somebody_repeats_is_masked_wherever_it_stands(written: Written) -> None:
    secret = "sk-of-this-test-alone-90a1"
    conceal(secret)
    conceal("short")
    logger("test").warning(f"refused {secret}", reason=f"bad key {secret}!", parts=["short", f"<{secret}>"], n=1)
    logger("test").warning("long", reason=f"{'x' * 500}{secret}{'y' * 500}")
    logging.getLogger("library").error("Incorrect API key provided: %s" % secret)  # noqa: UP031 - as libraries do
    assert secret not in written.text
    assert secret[:12] not in written.text, "not even what a cut would leave of it"
    assert written.lines[0]["reason"] == "bad key [secret]!"
    assert written.lines[0]["parts"] == ["short", "<[secret]>"]
