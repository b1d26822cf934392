"""Turn TOML text into a settings tree, or into the list of everything that is wrong with it."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from securellm.core.canonical import Canonical
from securellm.settings.fields import Field, FieldError, must_be, nearest
from securellm.settings.locator import Locator, Path
from securellm.settings.shapes import Choice, Many, Member, Named, Scalar, Shape, Table, table_of

T = TypeVar("T", bound=msgspec.Struct)

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_AT_LINE = re.compile(r" ?\(at line ([0-9]+), column [0-9]+\)$")


class Problem(msgspec.Struct, frozen=True):
    """One thing to correct. `line` counts from 1; `key` is dotted; `suggestion` is the nearest known name."""

    line: int | None
    key: str
    reason: str
    remedy: str
    suggestion: str | None = None

    def __str__(self) -> str:
        where = f"{self.key}: " if self.key else ""
        hint = f" (did you mean {self.suggestion}?)" if self.suggestion else ""
        return f"{where}{self.reason} \N{EM DASH} {self.remedy}{hint}"


class ConfigError(Exception):
    """A configuration that nothing may start from, with every problem found in it."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """One line for each problem: `file:line: key: reason — remedy (did you mean …?)`."""
        return [located(self.source, problem) for problem in self.problems]


def located(source: str, problem: Problem) -> str:
    """A problem with its file and line before it, as compilers write them."""
    line = "" if problem.line is None else f":{problem.line}"
    return f"{source}{line}: {problem}"


class Complaints:
    """Problems as they are found. A place that already has one gets no second: it would be its consequence."""

    def __init__(self, locator: Locator) -> None:
        self.locator = locator
        self._found: dict[Path, Problem] = {}

    def add(self, path: Path, reason: str, remedy: str, *, suggestion: str | None = None) -> None:
        if not self.broken(path):
            self._found[path] = self.problem(path, reason, remedy, suggestion=suggestion)

    def problem(self, path: Path, reason: str, remedy: str, *, suggestion: str | None = None) -> Problem:
        """A problem at `path` that is not kept here: a warning."""
        return Problem(self.locator.line(path), dotted(path), reason, remedy, suggestion)

    def broken(self, path: Path) -> bool:
        """Whether what stands at `path`, or a table around it, could not be read."""
        return any(path[:length] in self._found for length in range(len(path) + 1))

    def within(self, path: Path) -> bool:
        """Whether something at `path` or inside it could not be read."""
        return self.broken(path) or any(found[: len(path)] == path for found in self._found)

    def all(self) -> tuple[Problem, ...]:
        return tuple(self._found.values())

    def placed(self) -> tuple[tuple[Path, Problem], ...]:
        """As `all`, each with its place."""
        return tuple(self._found.items())


class Reading(msgspec.Struct, Generic[T], frozen=True):
    """A file as far as it could be read: `value` is whole, with blanks where `complaints` has a problem."""

    value: T
    complaints: Complaints
    document: Mapping[str, Any]
    """What was written, as plain values."""


def load(text: str, tree: type[T], *, source: str) -> T:
    """The settings tree written in `text`. Raises `ConfigError` with all problems at once."""
    reading = read(text, tree, source=source)
    problems = reading.complaints.all()
    if problems:
        raise ConfigError(source, problems)
    return reading.value


def read(text: str, tree: type[T], *, source: str) -> Reading[T]:
    """As `load`, for a caller that has checks of its own to add. Raises `ConfigError` only when it is not TOML."""
    return judge(parse(text, source=source), tree, locator=Locator(text))


def judge(document: Mapping[str, Any], tree: type[T], *, locator: Locator | None = None) -> Reading[T]:
    """As `read`, of plain values: of TOML once parsed, or of the same tables written in JSON."""
    complaints = Complaints(locator or Locator(""))
    value = _table(table_of(tree), document, (), complaints)
    assert isinstance(value, tree)
    return Reading(value, complaints, document)


def parse(text: str, *, source: str) -> dict[str, Any]:
    """TOML text as plain values. Raises `ConfigError` with the line of what is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        match = _AT_LINE.search(message)
        line = int(match[1]) if match else text.count("\n") + 1
        reason = _AT_LINE.sub("", message).removesuffix(" (at end of document)")
        problem = Problem(line, "", f"not TOML: {reason}", "correct the syntax; see https://toml.io/en/v1.0.0")
    except RecursionError:
        problem = Problem(None, "", "nested too deep", "write fewer arrays or tables inside each other")
    except ValueError:
        problem = Problem(None, "", "a number has too many digits", "write a smaller number")
    raise ConfigError(source, (problem,))


def dotted(path: Path) -> str:
    """A path as an operator writes it: `providers[0].kind`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _BARE.fullmatch(step) else json.dumps(step, ensure_ascii=True)
            text += f".{name}" if text else name
    return text


def effective(value: msgspec.Struct) -> Canonical:
    """A settings tree with its defaults filled in, in the one spelling that is hashed; secrets stay references."""
    return _written(table_of(type(value)), value)


def _written(shape: Shape, value: Any) -> Canonical:
    if value is None:
        return None
    match shape:
        case Scalar(kind):
            return kind.write(value)
        case Choice():
            return str(value)
        case Many(item):
            return [_written(item, one) for one in value]
        case Named(item):
            return {name: _written(item, one) for name, one in value.items()}
        case Table(_, members):
            return {member.name: _written(member.shape, getattr(value, member.name)) for member in members}


def _table(table: Table, raw: object, path: Path, complaints: Complaints) -> msgspec.Struct:
    if not isinstance(raw, Mapping):
        _complain(complaints, path, must_be("a table", raw, "write a table of keys and values"))
        raw = {}
    names = [member.name for member in table.members]
    for name in raw:
        if name not in names:
            near = nearest(name, names)
            remedy = "correct or remove it" if near else f"remove it; known here: {', '.join(names)}"
            complaints.add((*path, name), "no such key", remedy, suggestion=near)
    return table.tree(**{member.name: _member(member, raw, path, complaints) for member in table.members})


def _member(member: Member, raw: Mapping[str, object], path: Path, complaints: Complaints) -> Any:
    here = (*path, member.name)
    if member.name in raw:
        return _value(member.shape, raw[member.name], here, complaints, field=member.field)
    if not member.required:
        return member.default
    complaints.add(here, "missing", f"add it: {member.field.help}")
    return _blank(member.shape)


def _value(shape: Shape, raw: object, path: Path, complaints: Complaints, *, field: Field) -> Any:
    try:
        match shape:
            case Scalar(kind):
                value = kind.parse(raw)
                _fit(value, field)
                return value
            case Choice(words, make):
                return make(_chosen(words, raw))
            case Many(item, collect):
                if not isinstance(raw, list | tuple):
                    raise must_be("an array", raw, "write an array, even for one element")
                if len(raw) < field.min_items:
                    raise FieldError("is empty", f"name at least {field.min_items}")
                return collect(
                    _value(item, one, (*path, index), complaints, field=field) for index, one in enumerate(raw)
                )
            case Named(item):
                if not isinstance(raw, Mapping):
                    raise must_be("a table", raw, "write a table of keys and values")
                return {name: _value(item, one, (*path, name), complaints, field=field) for name, one in raw.items()}
            case Table():
                return _table(shape, raw, path, complaints)
    except FieldError as error:
        _complain(complaints, path, error)
        return _blank(shape)


def _complain(complaints: Complaints, path: Path, error: FieldError) -> None:
    complaints.add(path, error.reason, error.remedy, suggestion=error.suggestion)


def _fit(value: Any, field: Field) -> None:
    if field.ge is not None and value < field.ge:
        raise FieldError(f"is below the least value, {field.ge:g}", f"write {field.ge:g} or more")
    if field.le is not None and value > field.le:
        raise FieldError(f"is above the greatest value, {field.le:g}", f"write {field.le:g} or less")
    if field.pattern is not None and re.fullmatch(field.pattern, value, re.ASCII) is None:
        raise FieldError("has characters or a length that are not allowed", f"write {field.shape}")


def _chosen(words: tuple[str, ...], raw: object) -> str:
    remedy = f"write one of {', '.join(words)}"
    if not isinstance(raw, str):
        raise must_be("a string", raw, remedy)
    if raw not in words:
        raise FieldError("is not one of the known words", remedy, nearest(raw, list(words)))
    return raw


def _blank(shape: Shape) -> Any:
    match shape:
        case Scalar(kind):
            return kind.blank
        case Choice(words, make):
            return make(words[0])
        case Many(_, collect):
            return collect()
        case Named():
            return {}
        case Table(tree, members):
            return tree(
                **{member.name: _blank(member.shape) if member.required else member.default for member in members}
            )
