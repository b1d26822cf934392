"""The loader: every problem at once, each with its line, its key and the nearest known key."""

from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.settings import ConfigError, Field, Listen, Problem, Seconds, SecretRef, load


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    connect: Seconds = Seconds(2.0)
    total: Seconds = Seconds(600.0)


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    id: Annotated[str, Field(help="its name", pattern="[a-z]+", shape="small letters")]
    credential: SecretRef | None = None
    timeouts: Timeouts = msgspec.field(default_factory=Timeouts)


class Server(msgspec.Struct, frozen=True, kw_only=True):
    listen: Listen = Listen("127.0.0.1", 8080)
    workers: Annotated[int, Field(help="processes", ge=1, le=64)] = 1


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    server: Server = msgspec.field(default_factory=Server)
    providers: tuple[Provider, ...] = ()


def refusal(text: str) -> ConfigError | None:
    try:
        load(text, Tree, source="f.toml")
    except ConfigError as error:
        return error
    return None


def problems(text: str) -> list[Problem]:
    error = refusal(text)
    assert error is not None
    return list(error.problems)


def test_an_empty_file_is_the_defaults() -> None:
    assert load("", Tree, source="f.toml") == Tree()


def test_what_is_written_is_read() -> None:
    text = """
        [server]
        listen = "[::1]:9"
        [[providers]]
        id = "a"
        credential = "env:KEY"
        timeouts = { connect = "1s" }
    """
    tree = load(text, Tree, source="f.toml")
    assert tree.server.listen == Listen("::1", 9)
    assert tree.providers == (
        Provider(id="a", credential=SecretRef("env", "KEY"), timeouts=Timeouts(connect=Seconds(1.0))),
    )


@pytest.mark.requirement("PR-2")
def test_all_problems_are_reported_at_once_each_with_its_line_and_key() -> None:
    text = """\
[server]
lissten = "127.0.0.1:1"
workers = 0

[[providers]]
id = "a"

[[providers]]
id = "Bad Name"
timeouts = { connect = 2, total = "1 hour" }
"""
    found = [(problem.line, problem.key) for problem in problems(text)]
    assert found == [
        (2, "server.lissten"),
        (3, "server.workers"),
        (9, "providers[1].id"),
        (10, "providers[1].timeouts.connect"),
        (10, "providers[1].timeouts.total"),
    ]


@pytest.mark.requirement("PR-2")
def test_an_unknown_key_is_an_error_with_the_nearest_known_one() -> None:
    [problem] = problems('[server]\nlissten = "x"')
    assert problem.suggestion == "listen"
    assert str(problem) == "server.lissten: no such key \N{EM DASH} correct or remove it (did you mean listen?)"


def test_an_unknown_key_far_from_every_known_one_names_those() -> None:
    [problem] = problems("[server]\nzzz = 1")
    assert problem.suggestion is None
    assert "listen, workers" in problem.remedy


def test_a_missing_key_is_at_its_table_and_says_what_it_is_for() -> None:
    [problem] = problems('\n[[providers]]\ncredential = "env:A"')
    assert (problem.line, problem.key, problem.reason) == (2, "providers[0].id", "missing")
    assert "its name" in problem.remedy


def test_a_table_of_the_wrong_type_is_one_problem() -> None:
    assert [problem.key for problem in problems("server = 1")] == ["server"]
    assert [problem.key for problem in problems("providers = { id = 1 }")] == ["providers"]
    assert [problem.key for problem in problems("providers = [1, 2]")] == ["providers[0]", "providers[1]"]


def test_a_syntax_error_is_one_problem_with_its_line() -> None:
    [problem] = problems("[server]\nlisten = \n")
    assert problem.line == 2
    assert problem.reason.startswith("not TOML")
    [problem] = problems('[server]\nlisten = "unterminated')
    assert problem.line == 2


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000, "a" + ".a" * 2000 + "=" + "[" * 400])
def test_a_monstrous_file_is_one_problem(text: str) -> None:
    assert len(problems(text)) == 1


def test_the_error_prints_like_a_compiler() -> None:
    with pytest.raises(ConfigError) as refused:
        load("x = 1\n\ny = 2", Tree, source="f.toml")
    assert [line.split(": ")[:2] for line in refused.value.lines()] == [["f.toml:1", "x"], ["f.toml:3", "y"]]
    assert str(refused.value) == "\n".join(refused.value.lines())


def test_a_key_with_odd_characters_cannot_disturb_a_terminal() -> None:
    [problem] = problems('"a\\u001b[31m b" = 1')
    assert problem.key == '"a\\u001b[31m b"'


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    "line",
    ["SECRET = {value}", "server = {value}", "server.listen = {value}", "server.workers = {value}"]
    + [
        f"[[providers]]\nid = 'a'\n{key} = {{value}}"
        for key in ("id2", "credential", "timeouts", "timeouts.connect", "timeouts.x")
    ],
)
def test_no_problem_quotes_a_value(line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(line.format(value='"sk-hunter2hunter2"'), Tree, source="f.toml")
    assert "hunter2" not in str(refused.value)


@given(st.text(max_size=200))
def test_arbitrary_text_raises_nothing_but_config_error(text: str) -> None:
    error = refusal(text)
    assert error is None or error.problems


FRAGMENTS = st.sampled_from(
    ["[server]", "[[providers]]", "[a.b]", "listen", "id", "=", "= 1", '"', "'", '"""', "'''", "\n", "#", ".", ",", "{",
     "}", "[", "]", "1979-05-27T07:32:00Z", "07:32:00", "inf", "0x1F", "true", "\\", "\\u00e9", "\r\n", "\r", "\t", "é"]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=25))
def test_text_that_looks_like_toml_raises_nothing_but_config_error(parts: list[str]) -> None:
    text = "".join(parts)
    error = refusal(text)
    assert error is None or all(
        problem.line is None or 1 <= problem.line <= text.count("\n") + 1 for problem in error.problems
    )


VALUES = st.sampled_from(
    ["1", "1.5", "true", '"x"', "[]", "[1, 2]", "{}", "{ id = 1 }", '[{ id = "a" }]', "1979-05-27", '"""a\nb"""']
)
NAMES = st.sampled_from(["server", "listen", "workers", "providers", "id", "credential", "timeouts", "connect", "odd"])


@given(st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), VALUES), max_size=6))
def test_any_toml_is_read_or_refused_with_lines_inside_the_file(rows: list[tuple[list[str], str]]) -> None:
    text = "\n".join(f"{'.'.join(names)} = {value}" for names, value in rows)
    error = refusal(text)
    assert error is None or all(
        problem.line is None or problem.line <= text.count("\n") + 1 for problem in error.problems
    )
