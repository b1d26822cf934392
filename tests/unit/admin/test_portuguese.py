"""Reasons in Portuguese: each belongs to one that is really given, and what varies in it stays what it is."""

from pathlib import Path

import pytest
from tests.unit.admin.driver import RIGHT, Desk

import securellm
from securellm.admin.portuguese import REASONS, in_portuguese
from securellm.identity import Role

SLICES = ("admin", "approvals", "bootstrap", "identity")


@pytest.fixture(scope="module")
def source() -> str:
    root = Path(securellm.__file__).parent
    own = root / "admin" / "portuguese.py"
    files = (file for name in SLICES for file in (root / name).rglob("*.py") if file != own)
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("english", REASONS)
def test_each_reason_is_one_that_is_given(english: str, source: str) -> None:
    said = REASONS[english]
    assert said.count("{}") == english.count("{}")
    assert said != english
    for part in english.split("{}"):
        assert part in source


def test_what_varies_stays_and_what_is_unknown_is_said_in_english() -> None:
    assert in_portuguese("no virtual key has this id") == "não existe chave virtual com este id"
    assert in_portuguese("this asks for the permission keys:write") == "isto exige a permissão keys:write"
    assert in_portuguese("no {0.__class__} has this id") == "não existe {0.__class__} com este id"
    assert in_portuguese("nothing that we know") == "nothing that we know"


def test_a_problem_is_in_the_language_asked_for_and_its_record_in_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    person = desk.person(Role.AUDITOR)
    asked = [person.header, ("accept-language", "pt-BR")]
    answer = desk.call("POST", "/admin/v1/keys", {"tenant": "acme", "models": ["*"]}, headers=asked)
    assert answer.headers["content-language"] == "pt-BR"
    assert answer.json["detail"] == "isto exige a permissão keys:write"
    assert desk.denials[-1].reason == "this asks for the permission keys:write"
    english = desk.call("GET", "/admin/v1/keys/key_nobody", headers=[RIGHT]).json
    assert english["detail"] == "no virtual key has this id"
    desk.close()
