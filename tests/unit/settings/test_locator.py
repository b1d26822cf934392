"""The locator: the line of every key, however the file is laid out."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from securellm.settings.locator import Locator, Path

TEXT = """\
# a comment with = and [brackets]
title = "x = [1]" # another
[server]
listen = '''
not.a = "key"
'''
"quoted key" = 1
a.b.c = 2

[[providers]] # first
id = "a"
timeouts = { connect = "2s", total = "10m" }
[providers.extra]
deep = 1

[[providers]]
id = "b\\"]"
route = [
  { provider = "x" }, # one
  # nothing
  { provider = "y", when = 1979-05-27 07:32:00 },
  [ 1.5,
    2 ],
]
[[providers.inner]]
x = 1
[[providers.inner]]
x = 2
"""


def test_every_key_of_a_file_has_its_line() -> None:
    assert tomllib.loads(TEXT)
    locator = Locator(TEXT)
    expected: dict[Path, int] = {
        ("title",): 2,
        ("server",): 3,
        ("server", "listen"): 4,
        ("server", "quoted key"): 7,
        ("server", "a"): 8,
        ("server", "a", "b", "c"): 8,
        ("providers",): 10,
        ("providers", 0): 10,
        ("providers", 0, "id"): 11,
        ("providers", 0, "timeouts"): 12,
        ("providers", 0, "timeouts", "total"): 12,
        ("providers", 0, "extra"): 13,
        ("providers", 0, "extra", "deep"): 14,
        ("providers", 1): 16,
        ("providers", 1, "id"): 17,
        ("providers", 1, "route"): 18,
        ("providers", 1, "route", 0): 19,
        ("providers", 1, "route", 1, "provider"): 21,
        ("providers", 1, "route", 1, "when"): 21,
        ("providers", 1, "route", 2, 1): 23,
        ("providers", 1, "inner", 0, "x"): 26,
        ("providers", 1, "inner", 1, "x"): 28,
    }
    assert {path: locator.line(path) for path in expected} == expected


def test_what_is_absent_is_at_the_table_it_would_stand_in() -> None:
    locator = Locator(TEXT)
    assert locator.line(("providers", 1, "kind")) == 16
    assert locator.line(("server", "tls", "cert")) == 3
    assert locator.line(("models",)) is None


def test_windows_line_ends_count_once() -> None:
    assert Locator("a = 1\r\n\r\nb = '''\r\n'''\r\nc = 2\r\n").line(("c",)) == 5


def test_nesting_as_deep_as_tomllib_allows_is_followed() -> None:
    text = "a = " + "[" * 150 + "\n1" + "]" * 150 + "\nb = 2"
    assert tomllib.loads(text)
    assert Locator(text).line(("b",)) == 3


def test_quotes_at_the_end_of_a_long_string_belong_to_it() -> None:
    text = 'a = """x""\\"""""\nb = 1\nc = \'\'\'\n\'\'\'\'\'\nd = 2'
    assert set(tomllib.loads(text)) == {"a", "b", "c", "d"}
    locator = Locator(text)
    assert [locator.line((name,)) for name in "abcd"] == [1, 2, 3, 5]


NAMES = st.text("ab-_", min_size=1, max_size=4) | st.text(min_size=1, max_size=4)


def quoted(name: str, draw: st.DataObject) -> str:
    bare = name.isascii() and all(c.isalnum() or c in "-_" for c in name)
    if bare and draw.draw(st.booleans()):
        return name
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in name) + '"'


NOISE = st.sampled_from(["", "\n", "# x = 1\n", "  \n\t# [y]\n", "\r\n"])
SCALARS = st.sampled_from(
    ["1", "1.5e3", "true", '"a # b"', "'[x]'", '"""\n=\n"""', "'''\n#'''", "1979-05-27 07:32:00.5", "-inf", '"\\""']
)


class Writer:
    """Writes a file by parts and notes on which line it put each key."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.text = ""
        self.lines: dict[Path, int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def key(self, path: Path) -> None:
        self.lines[path] = self.line
        self.text += quoted(str(path[-1]), self.data)

    def value(self, path: Path, depth: int) -> None:
        shape = self.data.draw(st.sampled_from(["scalar", "scalar", "array", "table"] if depth else ["scalar"]))
        if shape == "scalar":
            self.text += self.data.draw(SCALARS)
        elif shape == "array":
            self.text += "["
            for index in range(self.data.draw(st.integers(0, 3))):
                self.text += self.data.draw(NOISE)
                self.lines[(*path, index)] = self.line
                self.value((*path, index), depth - 1)
                self.text += self.data.draw(NOISE) + ","
            self.text += "]"
        else:
            self.text += "{ "
            for place, name in enumerate(self.data.draw(st.lists(NAMES, max_size=2, unique=True))):
                self.text += ", " if place else ""
                self.key((*path, name))
                self.text += " = "
                self.value((*path, name), depth - 1)
            self.text += " }"

    def pairs(self, table: Path) -> None:
        for name in self.data.draw(st.lists(NAMES, max_size=3, unique=True)):
            self.text += self.data.draw(NOISE)
            self.key((*table, name))
            self.text += " = "
            self.value((*table, name), 3)
            self.text += "\n"


@given(st.data())
def test_the_line_is_right_on_any_generated_file(data: st.DataObject) -> None:
    writer = Writer(data)
    writer.pairs(())
    taken = {path[0] for path in writer.lines}
    for name in data.draw(st.lists(NAMES.filter(lambda name: name not in taken), max_size=3, unique=True)):
        if data.draw(st.booleans()):
            writer.text += "["
            writer.key((name,))
            writer.text += "]\n"
            writer.pairs((name,))
            continue
        for index in range(data.draw(st.integers(1, 3))):
            first = writer.lines.get((name,))
            writer.text += "[[ "
            writer.key((name,))
            writer.lines[(name, index)] = writer.line
            writer.lines[(name,)] = first or writer.line
            writer.text += " ]]\n"
            writer.pairs((name, index))
    document: Any = tomllib.loads(writer.text)
    locator = Locator(writer.text)
    for path, line in writer.lines.items():
        assert locator.line(path) == line
        place = document
        for step in path:
            place = place[step]
