"""What may be written as a provider's address, and what a time limit may be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.transport import Target, Timeouts, parse_base_url


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://api.openai.com/v1", Target(scheme="https", host="api.openai.com", port=443, path="/v1")),
        ("https://api.openai.com/v1/", Target(scheme="https", host="api.openai.com", port=443, path="/v1")),
        ("HTTPS://API.Example.COM", Target(scheme="https", host="api.example.com", port=443)),
        ("http://127.0.0.1:11434", Target(scheme="http", host="127.0.0.1", port=11434)),
        ("http://[::1]:8080/a/b", Target(scheme="http", host="::1", port=8080, path="/a/b")),
        ("http://[2001:DB8::0:1]", Target(scheme="http", host="2001:db8::1", port=80)),
        ("http://10.0.0.1", Target(scheme="http", host="10.0.0.1", port=80)),
        ("https://xn--caf-dma.example", Target(scheme="https", host="xn--caf-dma.example", port=443)),
        ("http://llama_server:8000/", Target(scheme="http", host="llama_server", port=8000)),
        ("https://x.example/a%20b/c~d", Target(scheme="https", host="x.example", port=443, path="/a%20b/c~d")),
    ],
)
@pytest.mark.requirement("PR-1")
def test_an_address_is_read_into_its_parts(text: str, target: Target) -> None:
    assert parse_base_url(text) == target


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "begin with"),
        ("api.openai.com", "begin with"),
        ("ftp://x", "begin with"),
        ("http:/x", "begin with"),
        ("file:///etc/passwd", "begin with"),
        ("https://", "no host"),
        ("https://:443", "no host"),
        ("https:///v1", "no host"),
        ("https://user@x/", "user"),
        ("https://user:secret@x/", "user"),
        ("https://x/v1?key=1", "query"),
        ("https://x/v1?", "query"),
        ("https://x/#a", "fragment"),
        ("https://x\\@y/", "backslash"),
        ("https://x:0", "port"),
        ("https://x:65536", "port"),
        ("https://x:", "port"),
        ("https://x:1:2", "port"),
        ("https://x:+1", "port"),
        ("https://x:00000443", "port"),
        ("https://[::1", "bracket"),
        ("https://[::1]x", "bracket"),
        ("https://[::1]:", "port"),
        ("https://[127.0.0.1]", "IPv6"),
        ("https://[]", "IPv6"),
        ("https://[fe80::1%25eth0]", "IPv6"),
        ("https://[fe80::1%eth0]", "zone"),
        ("https://::1/", "no host"),
        ("https://127.1", "IPv4"),
        ("https://2130706433", "IPv4"),
        ("https://0177.0.0.1", "IPv4"),
        ("https://0x7f.0.0.0x1", "IPv4"),
        ("https://256.1.1.1", "IPv4"),
        ("https://a..b", "name"),
        ("https://x.", "name"),
        ("https://-x", "name"),
        ("https://x-", "name"),
        ("https://x*y", "name"),
        ("https://" + "a" * 64, "name"),
        ("https://" + ".".join(["a" * 60] * 5), "name"),
        ("https://café.example", "ASCII"),
        ("https://x/é", "ASCII"),
        ("https://x/a b", "space"),
        ("https://x\r\nhost: y", "space"),
        ("https://x\t", "space"),
        ("https://x/\x7f", "space"),
        ("https://x//v1", "empty segment"),
        ("https://x/%zz", "illegal"),
        ("https://x/%", "illegal"),
        ('https://x/"', "illegal"),
        ("https://x/a/../b", "segments"),
        ("https://x/%2E%2e/b", "segments"),
        ("https://x/./b", "segments"),
    ],
)
@pytest.mark.requirement("PR-1")
def test_an_address_that_could_mean_two_things_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        parse_base_url(text)
    assert "secret" not in str(refusal.value)


@given(st.text() | st.from_regex(r"https?://[a-z0-9.:\[\]%@/-]{0,30}", fullmatch=True))
def test_any_text_is_an_address_or_a_reason_and_an_address_reads_back_as_itself(text: str) -> None:
    try:
        target = parse_base_url(text)
    except ValueError:
        return
    for written in (target.authority, target.host_header):
        assert parse_base_url(f"{target.scheme}://{written}{target.path}") == target


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("name", ["connect", "first_byte", "idle", "total"])
@pytest.mark.requirement("PR-5")
def test_no_time_limit_can_be_switched_off(name: str, seconds: float) -> None:
    limits = {"connect": 1.0, "first_byte": 1.0, "idle": 1.0, "total": 1.0, name: seconds}
    with pytest.raises(ValueError, match=name):
        Timeouts(**limits)
