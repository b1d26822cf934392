"""Every text of a body, whatever field it hides in: what a dialect does not declare opaque is screened."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from securellm.core import encoded
from securellm.core.document import Value
from securellm.core.messages import Kind, Leaf, Path, Role

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "model": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_TOOL_RESULTS = frozenset(
    {
        "tool_result",
        "function_call_output",
        "custom_tool_call_output",
        "computer_call_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "mcp_tool_result",
        "search_result",
        "document",
    }
)
_ARGUMENTS = frozenset({"arguments", "partial_json"})
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-:|")
_SHORTEST_MEDIA = 64
_TYPES = ("media_type", "mimeType", "mime_type")
"""Members that declare of what media type the data beside them are."""
_NOTHING: Mapping[str, Value] = MappingProxyType({})
_SMALLEST_NUMBER = 10_000_000_000
"""The least that has the eleven digits of the shortest identifier."""
_PADDED = ("cpf", "cnpj")
_SMALLEST_PADDED = 10_000
"""The least where the name of the member says that leading zeros may be missing."""


_AS_WRITTEN = frozenset(
    {
        "tools", "functions", "parameters", "input_schema", "input", "args", "arguments", "response", "response_format",
        "text", "format", "output_format", "output_config", "generationConfig", "generation_config", "toolConfig",
        "tool_config", "action", "actions", "outputs", "results", "operation", "commands",
    }
)  # fmt: skip
"""Names of members whose objects and lists are shown to a model as they are written."""
_ITEMS = ("input", 1)
"""What is said to the model, item by item, and how deep that stands."""
_SEALED = frozenset(
    {
        "encrypted_content", "encrypted_stdout", "encrypted_index", "signature", "thoughtSignature",
        "thought_signature", "continuationToken", "continuation_token",
    }
)  # fmt: skip
"""Names of members that hold texts which only their provider can read, and which it bills as what they say."""


class Shape(NamedTuple):
    """What a dialect declares of its bodies: everything else in them is text to screen."""

    names: frozenset[str]
    """Member names of the dialect: constants, not text."""
    ids: frozenset[Path]
    """Where ids stand, `*` for any index: opaque while they look like ids."""
    media: frozenset[Path]
    """Where base64 media, signatures and ciphertext stand: opaque while they are base64 of something else than text."""
    numbers: frozenset[str]
    """Member names whose numbers are numbers, however long."""
    system: frozenset[str]
    """Top-level members that speak with the operator's authority."""
    user: frozenset[str] = frozenset()
    """Top-level members that speak as the user where they name nobody."""
    turns: frozenset[Path] = frozenset({("messages", "*"), ("input", "*")})
    """Where objects stand that name who speaks, in `role`."""
    results: frozenset[str] = frozenset()
    """Member names, wherever they stand, of what tools answered."""


class Texts(NamedTuple):
    leaves: tuple[Leaf, ...]
    media_bytes: int
    """Base64 characters left out of the leaves."""
    unread: int
    """Bytes that are no leaf and that a model takes in as text all the same."""

    @property
    def bytes(self) -> int:
        """An upper bound of the tokens in them, pictures and sounds left out, since a token is at least one byte."""
        return text_bytes(self.leaves) + self.unread


def collect(members: Mapping[str, Value], shape: Shape) -> Texts:
    """The leaves of a body in document order."""
    walk = _Walk(shape)
    for name, value in members.items():
        role = Role.SYSTEM if name in shape.system else Role.USER if name in shape.user else Role.DATA
        walk.member(name, value, (name,), role)
    return Texts(tuple(walk.leaves), walk.media_bytes, walk.unread)


class _Walk:
    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._opaque = _opaque_names(shape)
        self.leaves: list[Leaf] = []
        self.media_bytes = 0
        self.unread = 0
        self._within = False

    def member(self, name: str, value: Value, path: Path, role: Role, holder: Mapping[str, Value] = _NOTHING) -> None:
        if name not in self._shape.names:
            self.leaves.append(Leaf(path, name, role, Kind.KEY))
        if name in _AS_WRITTEN and type(value) in (dict, list) and not self._within and (name, len(path)) != _ITEMS:
            self._written(name, value, path, role, holder)
            return
        self.value(name, value, path, Role.TOOL if name in self._shape.results else role, holder)

    def _written(self, name: str, value: Value, path: Path, role: Role, holder: Mapping[str, Value]) -> None:
        """A model is shown all of it: names, numbers and brackets cost as its texts do."""
        leaves, media = len(self.leaves), self.media_bytes
        self._within = True
        self.value(name, value, path, Role.TOOL if name in self._shape.results else role, holder)
        self._within = False
        told = sum(len(leaf.text) for leaf in self.leaves[leaves:]) + self.media_bytes - media
        self.unread += max(0, len(json.dumps(value)) - told)

    def value(self, name: str, value: Value, path: Path, role: Role, holder: Mapping[str, Value] = _NOTHING) -> None:
        """`holder` is the object that has `value` as a member, if one has."""
        if type(value) is str:
            if not value or self._is_opaque(name, value, path):
                return
            if name in self._opaque and _general(path) in self._shape.media and holder.get("type") != "text":
                self._media(value, path, role, next((holder[kind] for kind in _TYPES if kind in holder), ""))
                return
            kind = Kind.ARGUMENTS if name in _ARGUMENTS else Kind.TEXT
            self.leaves.append(Leaf(path, value, role, kind))
        elif type(value) is dict:
            inner = self._role_of(value, path, role)
            for child, inside in value.items():
                self.member(child, inside, (*path, child), inner, value)
        elif type(value) is list:
            for index, item in enumerate(value):
                self.value(name, item, (*path, index), role)
        elif (
            (type(value) is int or (type(value) is float and value.is_integer()))
            and abs(value) >= _SMALLEST_PADDED
            and (abs(value) >= _SMALLEST_NUMBER or any(word in name.lower() for word in _PADDED))
            and name not in self._shape.numbers
        ):
            self.leaves.append(Leaf(path, str(abs(int(value))), role, Kind.NUMBER))

    def _role_of(self, value: Mapping[str, Value], path: Path, role: Role) -> Role:
        # What a tool answered speaks for nobody else, whatever it says of itself.
        kind, named = value.get("type"), value.get("role")
        if role is Role.TOOL or (isinstance(kind, str) and kind in _TOOL_RESULTS):
            return Role.TOOL
        # Only a turn says who speaks: what is called `role` elsewhere is anybody's word.
        if isinstance(named, str) and _general(path) in self._shape.turns:
            return _ROLES.get(named, Role.DATA)
        return role

    def _is_opaque(self, name: str, value: str, path: Path) -> bool:
        if name in ("type", "role") and len(value) <= 40 and value.replace("_", "").isalpha() and value.isascii():
            return True
        if name not in self._opaque:
            return False
        general = _general(path)
        if general in self._shape.ids:
            return len(value) <= 512 and set(value) <= _ID_CHARACTERS and not set(value).isdisjoint(_LETTERS)
        return False

    def _media(self, value: str, path: Path, role: Role, declared: Value) -> None:
        read = encoded.read(value, kind=declared if isinstance(declared, str) else "", shortest=_SHORTEST_MEDIA)
        if read.text is not None:
            self.leaves.append(Leaf(path, read.head + read.text, role, Kind.ENCODED))
        elif not read.media:
            self.leaves.append(Leaf(path, value, role))
        else:
            self.media_bytes += len(value) - len(read.head)
            if path[-1] in _SEALED or (path[-1] == "data" and isinstance(path[-2], int)):
                self.unread += len(value)
            if not read.plain_head:
                self.leaves.append(Leaf(path, read.head, role))


@cache
def _opaque_names(shape: Shape) -> frozenset[str]:
    """The names of the members that may be exempt somewhere: most are not, and need no look at their path."""
    return frozenset(str(next(step for step in reversed(path) if step != "*")) for path in shape.ids | shape.media)


def _general(path: Path) -> Path:
    """A path with `*` for every index."""
    return tuple("*" if isinstance(step, int) else step for step in path)


_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def text_bytes(leaves: Sequence[Leaf]) -> int:
    """UTF-8 bytes of all leaves: an upper bound of the tokens in them, since a token is at least one byte."""
    return sum(len(leaf.text) if leaf.text.isascii() else len(leaf.text.encode("utf-8")) for leaf in leaves)
