"""What is in force and where each value of it comes from; and what another file would change."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Literal

import msgspec

from securellm.bootstrap.effective import TABLES, Effective, Name
from securellm.bootstrap.tree import Config
from securellm.settings.fields import KINDS, Bytes, Seconds, write_bytes, write_seconds
from securellm.settings.loader import dotted
from securellm.settings.locator import Locator
from securellm.settings.shapes import Choice, Many, Named, Scalar, Shape, Table, table_of

Source = Literal["file", "store", "default"]

AT_START = ("server", "storage", "security", "identity.session_idle", "identity.session_life")
"""What is read at start only: tables, and single keys."""
_SPELLED: Mapping[str, Callable[[Any], Any]] = {KINDS[Seconds].name: write_seconds, KINDS[Bytes].name: write_bytes}
_LISTED: Mapping[str, str] = dict(TABLES.values())
"""What the rows of a table are told apart by."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One value in force. Secrets stand in it as references only."""

    key: str
    """Dotted; the rows of a list are named by their ids: `providers[openai].timeouts.total`."""
    value: Any
    """In the words of the file, as plain values; None where nothing is set and nothing is the default."""
    source: Source
    line: int | None = None
    """Where in the file."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A value that two configurations do not share; None where one of them has no such value."""

    key: str
    before: Any
    after: Any
    at_start: bool
    """It takes effect at the next start only, not by SIGHUP."""


def settings_of(effective: Effective) -> tuple[Setting, ...]:
    """Every value in force, in the order of the file's reference."""
    return tuple(_Explaining(effective).settings())


def diff(before: Iterable[Setting], after: Iterable[Setting]) -> tuple[Difference, ...]:
    """What has another value, wherever it comes from, in the order of the keys."""
    then, now = ({setting.key: setting.value for setting in side} for side in (before, after))
    return tuple(
        Difference(
            key=key,
            before=then.get(key),
            after=now.get(key),
            at_start=any(key == known or key.startswith(f"{known}.") for known in AT_START),
        )
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    )


def at_next_start(before: Config, after: Config) -> tuple[str, ...]:
    """The keys of which `after` says something that a reload does not put in force."""
    keys = [
        f"{known}.{name}" for known in AT_START if "." not in known for name in getattr(before, known).__struct_fields__
    ]
    keys += [known for known in AT_START if "." in known]
    read = [(key, attrgetter(key)) for key in keys]
    return tuple(key for key, value in read if value(before) != value(after))


class _Explaining:
    def __init__(self, effective: Effective) -> None:
        self._effective = effective
        self._locator = Locator(effective.loaded.path.read_text(encoding="utf-8"))

    def settings(self) -> Iterator[Setting]:
        effective = self._effective
        for member in table_of(Config).members:
            value = getattr(effective.config, member.name)
            written = effective.loaded.document.get(member.name)
            if isinstance(member.shape, Many):
                yield from self._rows(member.name, member.shape.item, value, written or [])
            else:
                yield from self._of(member.shape, value, written, member.name, (member.name,), "file")

    def _rows(self, table: str, item: Shape, values: tuple[Any, ...], written: list[Any]) -> Iterator[Setting]:
        named = _LISTED.get(table)
        kind = next((kind for kind, place in TABLES.items() if place[0] == table), None)
        for index, value in enumerate(values):
            name = getattr(value, named) if named else str(index)
            if index < len(written):
                raw, source = written[index], "file"
            else:
                assert kind is not None
                raw, source = self._effective.stored[Name(kind, "", name)], "store"
            key = f"{table}[{name}]"
            place = (table, index)
            beside = self._stored_beside(table, name)
            yield from self._of(item, value, raw, key, place, "store" if source == "store" else "file", beside=beside)

    def _stored_beside(self, table: str, name: str) -> Mapping[str, Any]:
        """The stored budget and limits of a tenant, which are documents of their own."""
        if table != "tenants":
            return {}
        stored = {"budget": self._effective.stored.get(Name("budget", name, f"tenant:{name}"))}
        stored["limits"] = self._effective.stored.get(Name("limits", name, f"tenant:{name}"))
        return {kind: document for kind, document in stored.items() if document is not None}

    def _of(
        self,
        shape: Shape,
        value: Any,
        written: Any,
        key: str,
        place: tuple[str | int, ...],
        source: Source,
        *,
        beside: Mapping[str, Any] = {},
    ) -> Iterator[Setting]:
        if isinstance(shape, Table) and value is not None:
            for member in shape.members:
                below = written.get(member.name) if isinstance(written, Mapping) else None
                apart = member.name in beside
                yield from self._of(
                    member.shape,
                    getattr(value, member.name),
                    beside[member.name] if apart else below,
                    f"{key}.{dotted((member.name,))}",
                    (*place, member.name),
                    "store" if apart else source,
                )
            return
        if written is None:
            yield Setting(key=key, value=_spelled(shape, value), source="default")
        else:
            line = self._locator.line(place) if source == "file" else None
            yield Setting(key=key, value=_plain(written), source=source, line=line)


def _spelled(shape: Shape, value: Any) -> Any:
    """A default as a person would write it."""
    if value is None:
        return None
    match shape:
        case Scalar(kind):
            spell = _SPELLED.get(kind.name)
            return kind.write(value) if spell is None else spell(value)
        case Choice():
            return str(value)
        case Many(item):
            return [_spelled(item, one) for one in value]
        case Named(item):
            return {name: _spelled(item, one) for name, one in value.items()}
        case Table():
            return None


def _plain(written: Any) -> Any:
    """As JSON has it: TOML's own dates become text."""
    if isinstance(written, Mapping):
        return {name: _plain(one) for name, one in written.items()}
    if isinstance(written, list | tuple):
        return [_plain(one) for one in written]
    return written if isinstance(written, str | int | float | bool) else written.isoformat()
