"""The members of a client's request, taken one by one, so that none is overlooked."""

from securellm.core.document import Document, Value
from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.providers.translation.model import Members


class Fields:
    """One object of a request. What nobody took is left in `rest` by `leave`.

    A null says nothing. Raises Refusal(INVALID_REQUEST), naming the place, for a value of the wrong type.
    """

    __slots__ = ("_left", "_pattern", "_rest", "path")

    def __init__(self, members: Members, rest: dict[str, Value], *, path: str = "", pattern: str = "") -> None:
        self.path = path
        """Where it stands: `messages.0.content.1.`"""
        self._pattern = pattern
        self._rest = rest
        self._left = {name: value for name, value in members.items() if value is not None}

    def take(self, name: str) -> Value:
        """The member's value; None when there is none."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        value = self.take(name)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(name, "a string")

    def needed(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if value is None:
            raise self.wrong(name, "a string")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.take(name)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(name, "true or false")

    def whole(self, name: str) -> int | None:
        value = self.take(name)
        if value is None or type(value) is int:
            return value
        raise self.wrong(name, "a whole number")

    def number(self, name: str) -> int | float | None:
        value = self.take(name)
        if value is None or type(value) is int or type(value) is float:
            return value
        raise self.wrong(name, "a number")

    def object(self, name: str) -> "Fields | None":
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, dict):
            return self._below(value, name, name)
        raise self.wrong(name, "an object")

    def members(self, name: str) -> dict[str, Value] | None:
        """An object that is taken as it is."""
        value = self.take(name)
        if value is None or isinstance(value, dict):
            return value
        raise self.wrong(name, "an object")

    def objects(self, name: str) -> list["Fields"]:
        """The objects of an array; none when there is no array."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "an array")
        found: list[Fields] = []
        for index, element in enumerate(value):
            if not isinstance(element, dict):
                raise self.wrong(f"{name}.{index}", "an object")
            found.append(self._below(element, f"{name}.{index}", f"{name}.*"))
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings of an array; none when there is no array."""
        value = self.take(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.wrong(name, "an array of strings")
        strings = tuple(element for element in value if isinstance(element, str))
        if len(strings) != len(value):
            raise self.wrong(name, "an array of strings")
        return strings

    def is_text(self, name: str) -> bool:
        return isinstance(self._left.get(name), str)

    def skip(self, name: str, *values: Value) -> None:
        """Overlook a member that has one of `values`: those that say no more than leaving it out."""
        if name in self._left and any(same(self._left[name], value) for value in values):
            del self._left[name]

    def leave(self) -> None:
        """What was not taken is left in `rest`."""
        for name, value in self._left.items():
            path = f"{self._pattern}{name}"
            before = self._rest.get(path)
            # Of several values under one path none may stand for all.
            self._rest[path] = value if path not in self._rest or same(before, value) else [before, value]
        self._left = {}

    def wrong(self, name: str, due: str) -> Refusal:
        return Refusal(Code.INVALID_REQUEST, f"{self.path}{name} must be {due}", param=f"{self.path}{name}")

    def unsaid(self, name: str, what: str) -> Refusal:
        """The refusal of something that no other dialect has."""
        place = f"{self.path}{name}".rstrip(".")
        return Refusal(Code.NOT_REPRESENTABLE, f"{what} cannot be said to a provider of another dialect", param=place)

    def _below(self, members: dict[str, Value], name: str, pattern: str) -> "Fields":
        return Fields(members, self._rest, path=f"{self.path}{name}.", pattern=f"{self._pattern}{pattern}.")


def same(one: Value, other: Value) -> bool:
    """Whether two values are one JSON value: 1 is not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def unsayable(what: str, *, name: str | None = None) -> Refusal:
    """The refusal of what an upstream's dialect has no words for. `name`: what hints call it (see `Speaker.holds`)."""
    return Refusal(
        Code.NOT_REPRESENTABLE, f"this model's provider speaks a dialect without words for {what}", param=name
    )


def broken(reason: str) -> UpstreamFailure:
    """The failure of an upstream whose answer cannot be translated."""
    return UpstreamFailure(Code.BAD_REPLY, reason)


def arguments_in(text: str) -> dict[str, Value] | None:
    """The object that a tool call's arguments are, parsed strictly. None when they are none.

    Empty arguments are `{}` here: this is for dialects that have no other way to say so.
    """
    if not text.strip():
        return {}
    try:
        root = Document(text.encode("utf-8", "surrogatepass")).root
    except Refusal:
        return None
    return root if isinstance(root, dict) else None
