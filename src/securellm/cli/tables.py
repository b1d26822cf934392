"""What a list looks like to a person: aligned columns under their names."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from securellm.cli.plain import plain

_GAP = "  "


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of a table with these members of each row; the first one names them."""
    cells = [[column.replace("_", " ").upper() for column in columns]]
    cells += [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield _GAP.join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()


def cell(value: Any) -> str:
    """A JSON value in one line."""
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            text = ", ".join(map(cell, value))
        case dict():
            text = " ".join(f"{name}={cell(below)}" for name, below in value.items())
        case _:
            text = "" if value is None else plain(str(value)).replace("\n", "\\n")
    return text or "-"
