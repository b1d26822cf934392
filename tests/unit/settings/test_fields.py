"""What each kind of field accepts, and how it refuses without quoting what it was given."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.canonical import canonical_bytes
from securellm.core.surfaces import Surface
from securellm.settings import (
    Amount,
    Bytes,
    ConfigError,
    Field,
    FilePath,
    Instant,
    Listen,
    Permille,
    PricePerMillion,
    Seconds,
    SecretRef,
    effective,
    is_loopback,
    load,
)
from securellm.settings.fields import KINDS, FieldError, write_bytes, write_seconds


def parsed(kind: object, value: object) -> Any:
    return KINDS[kind].parse(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("2s", 2.0), ("10m", 600.0), ("1h", 3600.0), ("1d", 86400.0), ("1.5s", 1.5), ("0s", 0.0)],
)
def test_a_duration_is_written_with_its_unit(text: str, seconds: float) -> None:
    assert parsed(Seconds, text) == seconds


@pytest.mark.parametrize("value", [30, 2.0, "30", "s", "-1s", "1 s", "1e3s", "1S", "١s", "", True, ["1s"]])
def test_a_duration_without_a_unit_is_refused(value: object) -> None:
    with pytest.raises(FieldError):
        parsed(Seconds, value)


@pytest.mark.parametrize(
    ("value", "size"), [(0, 0), (1024, 1024), ("512B", 512), ("64KiB", 65536), ("10MiB", 10485760), ("1GiB", 1 << 30)]
)
def test_a_size_is_a_number_or_has_a_binary_unit(value: object, size: int) -> None:
    assert parsed(Bytes, value) == size


@pytest.mark.parametrize("value", [-1, "10MB", "10 MiB", "1.5MiB", "MiB", True, 1.0, "9999999999999B"])
def test_any_other_size_is_refused(value: object) -> None:
    with pytest.raises(FieldError):
        parsed(Bytes, value)


@given(st.integers(1, 10**9))
def test_a_duration_and_a_size_read_back_as_they_are_shown(number: int) -> None:
    assert parsed(Bytes, write_bytes(Bytes(number))) == number
    assert parsed(Seconds, write_seconds(Seconds(number / 1000))) == pytest.approx(number / 1000)


def test_money_is_exact() -> None:
    assert parsed(Amount, "200.00 USD") == Amount(200_000_000_000, "USD")  # type: ignore[arg-type]
    assert parsed(PricePerMillion, "0.0375 USD") == PricePerMillion(37_500, "USD")  # type: ignore[arg-type]
    assert parsed(Permille, "2.0") == 2000
    assert parsed(Permille, "0.125") == 125


@pytest.mark.parametrize("value", ["200", "USD 200", "-1.00 USD", "1.0000000001 USD", "1 usd", 200, "1,00 USD"])
def test_an_amount_without_a_currency_or_with_too_many_decimals_is_refused(value: object) -> None:
    with pytest.raises(FieldError):
        parsed(Amount, value)
    with pytest.raises(FieldError):
        parsed(PricePerMillion, value)


@pytest.mark.parametrize("value", [2.0, 2, "2.0000", "-1.0", "two", "1e3"])
def test_a_multiplier_is_a_decimal_in_quotes(value: object) -> None:
    with pytest.raises(FieldError):
        parsed(Permille, value)


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    "text",
    [
        "env:OPENAI_API_KEY",
        "file:/run/secrets/key",
        "file:key.txt",
        "keyring:securellm/openai",
        "keyring:a/b c/gateway@acme",
        "vault:secret/data/openai#api_key",
        "vault:team/kv/data/llm/openai#api_key@12",
        "vault:kv/openai#api_key",
        "aws:llm/openai",
        "aws:llm/openai@team#api_key",
        "aws:llm/openai#api_key@AWSPREVIOUS",
        "aws:openai#@AWSPENDING",
        "aws:arn:aws:secretsmanager:sa-east-1:123456789012:secret:llm/openai-AbCdEf#api_key",
        "gcp:projects/acme/secrets/openai/versions/latest",
        "gcp:projects/123/secrets/openai/versions/7#api_key",
        "gcp:projects/example.com:acme/locations/southamerica-east1/secrets/openai/versions/stable",
    ],
)
def test_a_secret_is_named_by_a_reference(text: str) -> None:
    ref = parsed(SecretRef, text)
    assert isinstance(ref, SecretRef)
    assert str(ref) == text


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    "literal",
    [
        "sk-proj-abcdefgh",
        "AKIAIOSFODNN7EXAMPLE",
        "env:sk-proj-abcdefgh",
        "ENV:NAME",
        "https://x",
        "file:",
        "keyring:AKIA",
        "keyring:/user",
        "keyring:service/",
        "keyring:a/b\n",
        "vault:AKIA",
        "vault:secret/data/abcdefgh",
        "vault:secret/data/abcdefgh#",
        "vault:secret//abcdefgh#x",
        "vault:/secret/abcdefgh#x",
        "vault:secret/../sys/abcdefgh#x",
        "vault:secret/data/abcdefgh#x@0",
        "vault:kv/abcdefgh#x@1",
        "vault:secret/data/abcdefgh?version=1#x",
        "vault:secret/dáta/abcdefgh#x",
        "aws:",
        "aws:#AKIA",
        "aws:AKIA IOSFOD",
        "aws:x#abcdefgh@a b",
        "aws:arn:aws:iam::123456789012:role/abcdefgh",
        "gcp:projects/abcdefgh",
        "gcp:projects/p/secrets/s/versions/abcdefgh:access",
        "gcp:projects/p/secrets/../versions/abcdefgh",
        "gcp:projects/p/secrets/s/versions/0abcdefgh",
    ],
)
def test_a_literal_secret_is_refused_and_never_quoted(literal: str) -> None:
    with pytest.raises(FieldError) as refused:
        parsed(SecretRef, literal)
    shown = f"{refused.value.reason} {refused.value.remedy} {refused.value.suggestion}"
    for part in ("abcdefgh", "AKIA"):
        assert part not in shown


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:80", "::1", 80),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("localhost:65535", "localhost", 65535),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, host: str, port: int) -> None:
    listen = parsed(Listen, text)
    assert listen == Listen(host, port)
    assert str(listen) == text


@pytest.mark.parametrize(
    "value", ["8080", ":8080", "127.0.0.1", "127.0.0.1:65536", "256.0.0.1:80", "1.2.3:80", "[zz]:80", "::1:80", 8080]
)
def test_half_an_address_is_refused(value: object) -> None:
    with pytest.raises(FieldError):
        parsed(Listen, value)


def test_only_this_machine_is_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "::ffff:10.0.0.1", "")))


@pytest.mark.parametrize(
    "value",
    ["2027-01-31T00:00:00Z", "2027-01-30T21:00:00-03:00", "2027-01-31t00:00:00z", datetime(2027, 1, 31, tzinfo=UTC)],
)
def test_a_moment_is_the_same_however_its_offset_is_written(value: object) -> None:
    assert parsed(Instant, value) == 1_801_353_600_000_000


@pytest.mark.parametrize(
    "value",
    ["2027-01-31", "2027-01-31T00:00:00", "2027-02-30T00:00:00Z", datetime(2027, 1, 31), 1_800_000_000],  # noqa: DTZ001
)
def test_a_moment_without_an_offset_or_that_does_not_exist_is_refused(value: object) -> None:
    with pytest.raises(FieldError):
        parsed(Instant, value)


@given(st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_every_moment_that_tomllib_can_give_is_read(moment: datetime) -> None:
    offset = moment.utcoffset()
    assert offset is not None
    assert parsed(Instant, moment) == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes() | st.dates() | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(list(KINDS)), ANYTHING)
def test_a_kind_gives_a_value_with_a_canonical_spelling_or_refuses(kind: object, value: object) -> None:
    try:
        read = parsed(kind, value)
    except FieldError:
        return
    canonical_bytes(KINDS[kind].write(read))


class Every(msgspec.Struct, frozen=True, kw_only=True):
    level: Literal["low", "high"] = "low"
    surface: Surface = Surface.CHAT
    names: Annotated[tuple[str, ...], Field(help="names", min_items=1)] = ("a",)
    fees: dict[str, Amount] = msgspec.field(default_factory=dict)
    share: Annotated[float, Field(help="share", ge=0, le=1)] = 0.5
    file: FilePath | None = None
    many: list[int] = msgspec.field(default_factory=list)
    expires: Instant | None = None


def test_a_tree_reads_every_kind() -> None:
    text = """
        level = "high"
        surface = "messages"
        names = ["x", "y"]
        share = 1
        file = "a.pem"
        many = [1, 2]
        expires = 1970-01-01T00:00:01Z
        fees = { web_search = "0.01 USD" }
    """
    every = load(text, Every, source="x")
    assert every.level == "high"
    assert every.surface is Surface.MESSAGES
    assert (every.names, every.share, every.file, every.many) == (("x", "y"), 1.0, "a.pem", [1, 2])
    assert every.fees == {"web_search": parsed(Amount, "0.01 USD")}
    assert every.expires == 1_000_000


def test_every_value_of_a_tree_has_a_canonical_spelling() -> None:
    assert canonical_bytes(effective(Every())) == (
        b'{"expires":null,"fees":{},"file":null,"level":"low","many":[],"names":["a"],"share":"0.5","surface":"chat"}'
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('level = "hihg"', "level"),
        ("level = 1", "level"),
        ('surface = "chats"', "surface"),
        ("names = []", "names"),
        ('names = "x"', "names"),
        ("names = [1]", "names[0]"),
        ("share = 1.5", "share"),
        ("share = nan", "share"),
        ("share = true", "share"),
        ("fees = 1", "fees"),
        ('fees = { x = "1" }', "fees.x"),
        ('file = ""', "file"),
        ('file = "\\u0000"', "file"),
        ("many = [9223372036854775808]", "many[0]"),
    ],
)
def test_a_value_that_does_not_fit_names_its_key(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(text, Every, source="x")
    assert [problem.key for problem in refused.value.problems] == [key]


@pytest.mark.parametrize("kind", [bytes, int | str, dict[int, str], object])
def test_a_tree_with_a_field_of_no_known_kind_is_a_mistake_in_the_program(kind: Any) -> None:
    tree = msgspec.defstruct("Odd", [("field", kind)])
    with pytest.raises(TypeError):
        load("", tree, source="x")


@given(st.sampled_from(["vault:", "aws:", "gcp:", "keyring:", "file:", ""]), st.text(max_size=80))
def test_any_text_is_a_reference_that_reads_back_or_is_refused(scheme: str, text: str) -> None:
    try:
        ref = parsed(SecretRef, scheme + text)
    except FieldError:
        return
    assert str(ref) == scheme + text
    assert parsed(SecretRef, str(ref)) == ref
