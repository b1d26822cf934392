"""A secret value: held, compared and revealed on purpose, never written by accident."""

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.secrets import SecretValue

PLAIN = "hunter2-hunter2"
SECRET = SecretValue(PLAIN)


class Holder(msgspec.Struct):
    secret: SecretValue


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    "write",
    [
        repr,
        str,
        "{}".format,
        "{!r:>40}".format,
        "{:s}".format,
        lambda secret: f"{secret:>30}",
        lambda secret: f"{secret!r}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - one more way to print
        lambda secret: str([secret, {"key": secret}]),
        lambda secret: repr(Holder(secret)),
        lambda secret: str(ValueError(secret)),
        lambda secret: logging.LogRecord("x", 20, "x", 1, "key %s", (secret,), None).getMessage(),
        lambda secret: json.dumps({"key": secret}, default=str),
        lambda secret: msgspec.json.encode({"key": secret}, enc_hook=str).decode(),
    ],
)
def test_a_secret_prints_as_a_mask(write: Callable[[SecretValue], str]) -> None:
    assert PLAIN not in write(SECRET)
    assert "[secret]" in write(SECRET)


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    "give_away",
    [
        json.dumps,
        msgspec.json.encode,
        msgspec.msgpack.encode,
        msgspec.to_builtins,
        lambda secret: msgspec.json.encode(Holder(secret)),
        *(lambda secret, n=protocol: pickle.dumps(secret, n) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        lambda secret: pickle.dumps([secret]),
        copy.copy,
        copy.deepcopy,
        lambda secret: copy.deepcopy({"key": [secret]}),
        lambda secret: secret.__getstate__(),
        vars,
        hash,
        list,
        len,
        bytes,
    ],
)
def test_a_secret_is_not_encoded_pickled_copied_or_taken_apart(give_away: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError) as refused:
        give_away(SECRET)
    assert PLAIN not in str(refused.value)


@pytest.mark.requirement("SC-1")
def test_a_traceback_shows_no_secret_even_with_the_values_around_it() -> None:
    def use(secret: SecretValue) -> None:
        held = {"secret": secret, "holder": Holder(secret)}
        raise ValueError(f"cannot use {held}")

    try:
        use(SECRET)
    except ValueError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert PLAIN not in shown
    assert "[secret]" in shown


@given(st.text(), st.text())
def test_secrets_are_equal_when_their_text_is(one: str, other: str) -> None:
    assert (SecretValue(one) == SecretValue(other)) is (one == other)
    assert SecretValue(one) == SecretValue(one)
    assert SecretValue(one).reveal() == one


def test_a_secret_is_not_equal_to_its_text() -> None:
    assert SECRET != PLAIN
