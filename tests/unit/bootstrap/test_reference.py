"""The reference page of the configuration: generated from the tree, current, and complete."""

import pytest
from tools import reference

from securellm.bootstrap.tree import Config
from securellm.settings.shapes import Many, Table, table_of


def tables(table: Table) -> list[Table]:
    inner = [member.shape.item if isinstance(member.shape, Many) else member.shape for member in table.members]
    return [table, *(below for shape in inner if isinstance(shape, Table) for below in tables(shape))]


def test_the_page_says_what_the_program_reads() -> None:
    assert reference.main(["--check"]) == 0


def test_a_stale_page_fails_the_check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reference, "page", lambda: "another page")
    assert reference.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err


def test_every_key_has_a_line_of_help_and_every_table_a_sentence() -> None:
    for table in tables(table_of(Config)):
        assert table.tree.__doc__, table.tree
        for member in table.members:
            assert member.field.help, (table.tree, member.name)
            assert f"`{member.name}`" in reference.page()
