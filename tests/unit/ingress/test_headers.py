"""What is read from a request's headers."""

import pytest
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, Refusal
from securellm.core.ids import Ids
from securellm.core.randomness import SystemRandomness
from securellm.ingress.headers import credential, deadline, prefers_portuguese, read_headers, trace

IDS = Ids(ManualClock(), SystemRandomness())


def code_of(*raw: tuple[bytes, bytes]) -> Code:
    with pytest.raises(Refusal) as refused:
        credential(read_headers(list(raw)))
    return refused.value.code


def test_a_header_that_must_be_single_is_refused_twice_and_others_are_joined() -> None:
    assert read_headers([(b"accept", b"a"), (b"accept", b" b ")]) == {"accept": "a,b"}
    for name in (
        b"authorization",
        b"x-api-key",
        b"x-goog-api-key",
        b"idempotency-key",
        b"content-type",
        b"x-provider",
        b"x-request-deadline",
    ):
        assert code_of((name, b"a"), (name, b"a")) is Code.INVALID_HEADER


def test_what_travels_on_must_be_printable_ascii() -> None:
    for value in ("caf\u00e9".encode("latin-1"), b"a\tb", b"a\x7fb"):
        for name in (b"anthropic-beta", b"openai-beta", b"x-goog-api-client"):
            assert code_of((name, value)) is Code.INVALID_HEADER
    assert read_headers([(b"user-agent", "caf\u00e9".encode("latin-1"))]) == {"user-agent": "caf\u00e9"}


def test_a_credential_is_taken_from_any_of_four_headers() -> None:
    assert credential({}) is None
    for name in ("x-api-key", "api-key", "x-goog-api-key"):
        assert credential({name: "abc"}) == "abc"
        assert code_of((name.encode(), b"a"), (b"authorization", b"Bearer b")) is Code.INVALID_HEADER
    assert credential({"authorization": "bearer  abc "}) == "abc"
    assert credential({"authorization": "Bearer abc", "x-api-key": "abc", "x-goog-api-key": "abc"}) == "abc"
    assert code_of((b"x-api-key", b"a"), (b"api-key", b"b")) is Code.INVALID_HEADER
    for wrong in (b"Basic abc", b"Bearer", b"Bearer ", b""):
        assert code_of((b"authorization", wrong)) is Code.MISSING_KEY


def test_a_trace_is_continued_when_it_is_well_formed_and_begun_otherwise() -> None:
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    continued = trace({"traceparent": good}, IDS)
    assert continued.trace_id == good[3:35]
    assert continued.traceparent[:36] == good[:36]
    assert continued.traceparent[36:52] != good[36:52], "our own span"
    assert continued.traceparent[-2:] == "00"
    for wrong in (
        "",
        good.upper(),
        good[:-1],
        good + "-x",
        "01" + good[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{good[3:35]}-{'0' * 16}-01",
    ):
        begun = trace({"traceparent": wrong}, IDS)
        assert begun.trace_id != good[3:35]
        assert len(begun.traceparent) == 55


def test_a_deadline_is_seconds_from_now() -> None:
    assert deadline({}, 10.0) is None
    assert deadline({"x-request-deadline": "1.5"}, 10.0) == 11.5
    assert deadline({"x-request-deadline": "0"}, 10.0) == 10.0
    for wrong in ("", "-1", "1e3", "nan", "inf", ".", "1.2.3", "\u0661", "9" * 13, "1 "):
        with pytest.raises(Refusal):
            deadline({"x-request-deadline": wrong}, 10.0)


def test_portuguese_is_spoken_to_whom_it_is_the_first_choice() -> None:
    assert prefers_portuguese({"accept-language": "pt-BR,en;q=0.5"})
    assert prefers_portuguese({"accept-language": " PT"})
    assert not prefers_portuguese({"accept-language": "en,pt;q=0.9"})
    assert not prefers_portuguese({})
