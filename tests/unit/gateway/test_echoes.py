"""Finding the provider's credential in what it answers, however it is cut or spelled."""

import json

import pytest

from securellm.core.errors import Code, UpstreamFailure
from securellm.gateway.echoes import Echoes
from securellm.secrets import SecretValue


def echoed(echoes: Echoes, *pieces: str) -> bool:
    try:
        for piece in pieces:
            echoes.push("0", piece)
    except UpstreamFailure as failure:
        return failure.code is Code.BAD_REPLY
    return False


def test_a_credential_is_found_wherever_it_is_cut_and_nothing_else_is_held() -> None:
    secret = "sk-abcsk-abd-0123"
    text = f"say sk-abc {secret} end"
    for first in range(len(text)):
        for second in range(first, len(text)):
            echoes = Echoes(SecretValue(secret))
            assert echoed(echoes, text[:first], text[first:second], text[second:])
    echoes = Echoes(SecretValue(secret))
    for piece, pending in (("plain", 0), (" words", 1), ("k-a", 4), ("x", 0), ("sk-abcsk-abc", 6), ("sk-abc", 6)):
        assert not echoed(echoes, piece)
        assert echoes.pending("0") == pending, piece
    echoes.close("0")
    assert echoes.pending("0") == 0
    assert not echoed(Echoes(None), secret)
    assert not echoed(Echoes(SecretValue("short")), "short")


def test_a_credential_is_found_however_json_spells_it() -> None:
    secret = 'se"cret/0123456789'
    for spelled in (
        json.dumps({"a": [secret]}),
        json.dumps({secret: 1}),
        json.dumps({"a": secret}).replace("/", "\\/"),
        json.dumps({"a": secret}).replace("c", "\\u0063"),
        json.dumps({"a": secret}).replace("5", "\\u0035").replace("s", "\\u0073"),
    ):
        with pytest.raises(UpstreamFailure):
            Echoes(SecretValue(secret)).refuse_in(spelled.encode())
    Echoes(SecretValue(secret)).refuse_in(b'{"a":"\\u0063 \\/ something else"}')
