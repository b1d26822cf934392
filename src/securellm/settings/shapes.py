"""The shape of a settings tree, read once from the annotations of its Structs."""

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from securellm.settings.fields import KINDS, Field, Kind


class Scalar(msgspec.Struct, frozen=True):
    """One value of one kind."""

    kind: Kind


class Choice(msgspec.Struct, frozen=True):
    """One of some fixed words: of a Literal, or of a StrEnum."""

    words: tuple[str, ...]
    make: Callable[[str], str]


class Many(msgspec.Struct, frozen=True):
    """An array, or an array of tables."""

    item: "Shape"
    collect: type[tuple[Any, ...]] | type[list[Any]]


class Named(msgspec.Struct, frozen=True):
    """A table whose keys the operator chooses."""

    item: "Shape"


class Table(msgspec.Struct, frozen=True):
    """A table whose keys a Struct declares."""

    tree: type[msgspec.Struct]
    members: tuple["Member", ...]


class Member(msgspec.Struct, frozen=True):
    """One key of a `Table`. An absent key takes `default`, unless it is `required`."""

    name: str
    shape: "Shape"
    field: Field
    required: bool
    optional: bool
    default: Any


Shape = Scalar | Choice | Many | Named | Table

_PLAIN = Field(help="")


@cache
def table_of(tree: type[msgspec.Struct]) -> Table:
    """The shape of a Struct. Raises TypeError when an annotation names no kind: a mistake in the program."""
    hints = get_type_hints(tree, include_extras=True)
    members = []
    for info in msgspec.structs.fields(tree):
        hint, field = _without_field(hints[info.name])
        hint, optional = _without_none(hint)
        default = info.default
        if info.default_factory is not msgspec.NODEFAULT:
            default = info.default_factory()
        members.append(
            Member(
                name=info.name,
                shape=_shape_of(hint),
                field=field,
                required=info.required,
                optional=optional,
                default=None if info.required else default,
            )
        )
    return Table(tree, tuple(members))


def _without_field(hint: Any) -> tuple[Any, Field]:
    if get_origin(hint) is Annotated:
        inner, *extras = get_args(hint)
        for extra in extras:
            if isinstance(extra, Field):
                return inner, extra
        return inner, _PLAIN
    return hint, _PLAIN


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, UnionType):
        kept = [option for option in get_args(hint) if option is not NoneType]
        if len(kept) != 1:
            raise TypeError(f"{hint} mixes kinds")
        return kept[0], True
    return hint, False


def _shape_of(hint: Any) -> Shape:
    hint, _ = _without_field(hint)
    if hint in KINDS:
        return Scalar(KINDS[hint])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return Choice(arguments, str)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return Many(_shape_of(arguments[0]), tuple)
    if origin is list:
        return Many(_shape_of(arguments[0]), list)
    if origin is dict and arguments[0] is str:
        return Named(_shape_of(arguments[1]))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return Choice(tuple(word.value for word in hint), hint)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return table_of(hint)
    raise TypeError(f"{hint} is no kind of setting")
