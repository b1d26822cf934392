"""Names that a listener answers for, as they stand in the file and in `Host`."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.errors import Code, Refusal
from securellm.core.hosts import PATTERN, Hosts
from securellm.settings.fields import KINDS, FieldError, HostName

LISTED = Hosts.of(["llm.bank.example", "*.lab.example"])
parse = KINDS[HostName].parse


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("llm.bank.example", "llm.bank.example"),
        ("LLM.Bank.Example.", "llm.bank.example"),
        ("*.Lab.example", "*.lab.example"),
        ("gateway", "gateway"),
        ("my_service.internal", "my_service.internal"),
        ("xn--bnk-qla.example", "xn--bnk-qla.example"),
    ],
)
def test_a_name_is_kept_as_it_is_compared(written: str, meant: str) -> None:
    assert parse(written) == meant


@pytest.mark.parametrize(
    ("written", "part"),
    [
        ("*", "leave the key out"),
        ("", "without scheme and port"),
        ("https://llm.bank.example", "without scheme and port"),
        ("llm.bank.example:443", "without scheme and port"),
        ("llm.bank.example/", "without scheme and port"),
        ("a@llm.bank.example", "without scheme and port"),
        ("*.*.example", "without scheme and port"),
        ("a.*.example", "without scheme and port"),
        ("a..example", "without scheme and port"),
        ("-a.example", "without scheme and port"),
        ("a" * 64, "without scheme and port"),
        (".".join(["a" * 60] * 5), "without scheme and port"),
        ("llm bank", "without scheme and port"),
        ("127.0.0.1", "addresses always pass"),
        ("::1", "addresses always pass"),
        ("[::1]", "addresses always pass"),
        ("b\u00e4nk.example", "punycode"),
        (7, "without scheme and port"),
        (None, "without scheme and port"),
    ],
)
def test_what_is_no_name_is_refused_with_what_to_write_and_never_repeated(written: object, part: str) -> None:
    with pytest.raises(FieldError) as refused:
        parse(written)
    assert part in refused.value.remedy
    if isinstance(written, str) and len(written) > 3:
        assert written not in f"{refused.value.reason}{refused.value.suggestion}"


@given(st.text(max_size=80) | st.from_regex(PATTERN, fullmatch=True))
def test_no_host_passes_but_a_listed_one_an_address_or_localhost(host: str) -> None:
    passed = False
    with suppress(Refusal):
        LISTED.demand([host])
        passed = True
    name = re.sub(r":[0-9]*$", "", host).lower().removesuffix(".")
    assert (
        not passed
        or name in ("llm.bank.example", "localhost")
        or name.endswith(".lab.example")
        or re.match(r"[0-9\[]", name)
    )


def test_only_one_host_is_a_host() -> None:
    for values in ([], ["localhost", "localhost"], ["localhost", "evil.example"]):
        with pytest.raises(Refusal) as refused:
            LISTED.demand(values)
        assert refused.value.code is Code.INVALID_HEADER
    LISTED.demand(["localhost"])
