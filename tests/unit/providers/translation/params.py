"""What the official SDKs let a client send: every member of their request types, by its dotted path."""

from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict

_WRAPPERS = (Required, NotRequired)


def members_of(kind: Any, *, held: Iterable[str], left_out: Mapping[str, frozenset[str]]) -> set[str]:
    """The paths of `kind`'s members, and of the members of those in `held`.

    `left_out`: of the variants at a path those that are not looked into, by their `type` or `role`.
    """
    found: set[str] = set()
    _walk(kind, "", frozenset(held), left_out, found)
    return found


def variants_at(kind: Any, path: str) -> set[str]:
    """The `type`s (or `role`s) that the objects at `path` may have."""
    places = [(kind, "")]
    for step in path.split(".") if path else ():
        if step != "*":
            places = [
                place
                for one, _ in places
                for shape, _ in _shapes(one)
                if is_typeddict(shape) and step in _hints(shape)
                for place in [(_hints(shape)[step], step)]
            ]
    return {word for one, _ in places for shape, _ in _shapes(one) for word in _words(shape)}


def _walk(
    kind: Any, prefix: str, held: frozenset[str], left_out: Mapping[str, frozenset[str]], found: set[str]
) -> None:
    for shape, star in _shapes(kind):
        place = f"{prefix}{star}"
        if not is_typeddict(shape) or _words(shape) & left_out.get(place, frozenset()):
            continue
        for name, hint in _hints(shape).items():
            path = f"{place}.{name}" if place else name
            found.add(path)
            if path in held:
                _walk(hint, path, held, left_out, found)


def _hints(shape: Any) -> dict[str, Any]:
    return get_type_hints(shape, include_extras=True)


def _words(shape: Any) -> set[str]:
    if not is_typeddict(shape):
        return set()
    hints = _hints(shape)
    return {word for word, _ in _shapes(hints.get("type", hints.get("role"))) if isinstance(word, str)}


def _shapes(kind: Any, star: str = "") -> Iterator[tuple[Any, str]]:
    """What a type may be, its wrappers taken off, and `.*` for what may stand in an array; the words of literals."""
    origin = get_origin(kind)
    if origin in _WRAPPERS or origin is Annotated:
        yield from _shapes(get_args(kind)[0], star)
    elif origin is Union or origin is UnionType:
        for one in get_args(kind):
            yield from _shapes(one, star)
    elif origin is Literal:
        for word in get_args(kind):
            yield word, star
    elif origin is dict:
        yield dict, star
    elif origin is not None and get_args(kind):
        yield from _shapes(get_args(kind)[0], f"{star}.*")
    elif kind is not NoneType:
        yield kind, star
