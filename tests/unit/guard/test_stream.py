"""Streams: whatever the pieces, what is released is what screening the whole leaves."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.guard.texts import GUARD, redacted, screen

from securellm.core.errors import Code
from securellm.core.messages import Kind
from securellm.guard import Blocked, GuardMode, StreamScreen

PARTS = [
    "-----BEGIN PRIVATE KEY-----\nMIIEpA+/=\nab", "-----BEGIN ",
    "529.982.247-25", "52998224725", "5 2 9 9 8 2 2 4 7 2 5", "11.222.333/0001-81", "12.ABC.345/01DE-35",
    "12ABC34501DE35", "12 ABC 345 01DE 35", "4111 1111 1111 1111", "4111111111111111 123", "+55 (11) 98765-4321",
    "(11) 98765-4321", "tel 32214567", "joão@exemplo.com.br", "a@b@c.com.d", "sk-ant-api03-abcdEFGH12345678xyz",
    "sk-proj-" + "aB3" * 40, "AKIAIOSFODNN7EXAMPLE", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNr",
    "eyJ" + "a" * 600, "\\u0035\\u0032", "\\\\u0039", "\\n", "\\\\n", '\\"', "\\", "\\/", "\\ud835\\udfcf", "\\ud835",
    "\u200b", "\u00ad", "\u200b" * 40, "５", "𝟏", "½", "⑩", "—", " ", "  ", "    ", ".", "-", "/", "(", ")", "+", ",",
    ":", "@", "\n", "a", "Z", "word", "cpf", "é", "日本", "😀", "9", "55", "11", "98765", "1234", "_",
    "git@github.com:x", "x" * 70, "1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9", '"', "{", "}", '"k":',
]  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Identifiers and near misses side by side, some broken by one character, some escaped."""
    pieces = []
    for part in draw(st.lists(st.sampled_from(PARTS), max_size=12)):
        at = draw(st.integers(0, len(part)))
        broken = part[:at] + draw(st.sampled_from(["", "", "", " ", "-", "\u200b", "\\u002d", "5", "x"])) + part[at:]
        escaped = draw(st.integers(0, 9)) == 0
        pieces.append("".join(f"\\u{ord(c):04x}" for c in broken if ord(c) < 65536) if escaped else broken)
    return "".join(pieces)


def streamed(text: str, sizes: list[int], *, mode: GuardMode, arguments: bool) -> tuple[str, bool]:
    """What a client received, piece by piece, and whether the stream was blocked."""
    stream = StreamScreen(mode, decision_id="dec_1")
    received: list[str] = []
    released = pushed = 0

    def release() -> None:
        nonlocal released
        settled = stream.settled("text")
        assert released <= settled <= pushed
        for start, end in itertools.pairwise((released, (released + settled) // 2, settled)):
            at = start
            for cut_start, cut_end, replacement in stream.cuts("text", start, end):
                assert at <= cut_start < cut_end <= end
                received.extend((text[at:cut_start], replacement))
                at = cut_end
            received.append(text[at:end])
        released = settled
        stream.forget("text", released)

    try:
        for size in itertools.cycle(sizes):
            if pushed == len(text):
                break
            stream.push("text", text[pushed : pushed + size], arguments=arguments)
            pushed = min(len(text), pushed + size)
            release()
        stream.finish()
        release()
    except Blocked:
        return "".join(received), True
    assert released == len(text)
    return "".join(received), False


@pytest.mark.requirement("GD-5")
@settings(deadline=None, max_examples=300)
@given(texts(), st.one_of(st.just([1]), st.lists(st.integers(1, 40), min_size=1)), st.booleans())
def test_any_chunking_releases_what_screening_the_whole_leaves(text: str, sizes: list[int], arguments: bool) -> None:
    kind = Kind.ARGUMENTS if arguments else Kind.TEXT
    received, blocked = streamed(text, sizes, mode=GuardMode.STANDARD, arguments=arguments)
    assert not blocked
    assert received == redacted(text, kind=kind)


@pytest.mark.requirement("GD-5")
@settings(deadline=None)
@given(texts(), st.lists(st.integers(1, 40), min_size=1))
def test_a_strict_stream_is_blocked_just_when_the_whole_is_and_releases_only_its_beginning(
    text: str, sizes: list[int]
) -> None:
    received, blocked = streamed(text, sizes, mode=GuardMode.STRICT, arguments=False)
    try:
        screen(text, mode=GuardMode.STRICT)
    except Blocked:
        assert blocked
    else:
        assert not blocked
    assert redacted(text).startswith(received)


@pytest.mark.requirement("GD-5")
def test_prose_waits_only_for_its_current_word() -> None:
    stream = GUARD.open_stream(GuardMode.STANDARD, decision_id="dec_1")
    text = "The quick (brown) fox, não é 2024? It pays 35.00 or so."
    for at, character in enumerate(text):
        stream.push("0", character)
        word = len(text[: at + 1]) - len(text[: at + 1].split(" ")[-1])
        previous = text[: word - 1].split(" ")[-1]
        # After a number the next word decides whether it goes on.
        assert stream.settled("0") >= (word - 1 - len(previous) if previous[:1].isdigit() else word)
    assert stream.settled("0") < len(text)
    stream.finish()
    assert stream.settled("0") == len(text)
    assert stream.cuts("0", 0, len(text)) == ()


@pytest.mark.requirement("GD-5")
@pytest.mark.parametrize("filler", ["a", "1", "1 ", "a.", "\u200b", "\\", "\\u0031", "sk-a1", "eyJ", "b@c.d"])
def test_what_is_held_back_is_bounded(filler: str) -> None:
    stream = GUARD.open_stream(GuardMode.STANDARD, decision_id="dec_1")
    for at in range(1, 200):
        stream.push("0", filler * 50)
        assert at * 50 * len(filler) - stream.settled("0") < 4_000
        stream.forget("0", stream.settled("0"))


@pytest.mark.requirement("GD-5")
def test_observing_holds_nothing_back_and_changes_nothing() -> None:
    stream = GUARD.open_stream(GuardMode.OBSERVE, decision_id="dec_1")
    for character in "cpf 529.982.247-25 ok":
        stream.push("0", character)
    assert stream.settled("0") == 21
    assert stream.cuts("0", 0, 21) == ()
    stream.finish()
    assert [(finding.type, finding.start, finding.end) for finding in stream.findings] == [("cpf", 4, 18)]


def test_a_stream_that_is_off_passes_everything() -> None:
    stream = GUARD.open_stream(GuardMode.OFF, decision_id="dec_1")
    stream.push("0", "529.982.247-25")
    stream.finish()
    assert (stream.settled("0"), stream.cuts("0", 0, 14), stream.findings) == (14, (), ())


def test_channels_do_not_meet() -> None:
    stream = GUARD.open_stream(GuardMode.STANDARD, decision_id="dec_1")
    for channel, text in (("a", "529.982."), ("b", "529.982.247-25"), ("a", "247-2"), ("c", "5")):
        stream.push(channel, text)
    stream.finish()
    assert stream.cuts("a", 0, 13) == ()
    assert stream.cuts("b", 0, 14) == ((0, 14, "[CPF]"),)
    assert [finding.leaf for finding in stream.findings] == [1]


@pytest.mark.requirement("GD-5")
def test_a_block_in_a_stream_names_the_rule_and_never_the_text() -> None:
    stream = GUARD.open_stream(GuardMode.STRICT, decision_id="dec_7")

    def arrive() -> None:
        for character in "key sk-ant-api03-abcdEFGH12345678 and more":
            stream.push("0", character)

    with pytest.raises(Blocked) as caught:
        arrive()
    assert caught.value.code is Code.REPLY_BLOCKED
    assert caught.value.decision_id == "dec_7"
    assert "secret.anthropic" in caught.value.reason
    assert "abcdEFGH" not in str(caught.value)
    assert stream.settled("0") == 4
    with pytest.raises(Blocked):
        stream.push("0", "and on")
    assert stream.settled("0") == 4


@pytest.mark.requirement("GD-5")
@pytest.mark.parametrize(
    "text",
    [
        *(f"{'a' * at}sk-{'B3' * 60}-sk-{'C4' * 20} end" for at in range(0, 96, 5)),
        *("\\\\u0035" * at + " 529.982.247-25 " + "\\\\u002e" * 90 + "\\u0020529.982.247-25" for at in range(60, 75)),
        *(f"{'(' * at}(11) 98765-4321)" for at in range(3)),
        *(f"{'a' * at}sk-{'B3' * 30}-sk-{'C4' * 40} end" for at in (1, 2, 70)),
        f"sk-{'B3' * 60}\\u0042{'B3' * 40} end",
        f"a eyJ{'a' * 400}.eyJ{'b' * 400}.{'c' * 400} b",
        f"a {'x' * 200}@{'y.' * 100}com b",
        "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA0Z3VS5JJcds3\n" * 50 + "-----END RSA PRIVATE KEY-----",
        "5" + "\u200b" * 30 + "29.982.247-25 " + "\u200b" * 200 + "529.982.247-25",
        "9" * 500 + " 529.982.247-25",
        "12 " * 200 + "529.982.247-25",
        "52998224725" * 3 + " 52998224725,5 52998224725, 52998224725.",
    ],
)
def test_long_runs_are_cut_where_it_does_not_matter(text: str) -> None:
    for sizes in ([1], [3], [64], [7, 1, 90]):
        received, blocked = streamed(text, sizes, mode=GuardMode.STANDARD, arguments=False)
        assert not blocked
        assert received == redacted(text)
