"""The two spellings of Gemini's members: `camelCase`, which is written, and `snake_case`, which is read too."""

import base64
import re

from securellm.core.document import Value
from securellm.providers.translation.model import Members

_AFTER = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")
_OPAQUE = frozenset(
    {
        "_responseJsonSchema",
        "args",
        "labels",
        "parameters",
        "parametersJsonSchema",
        "partMetadata",
        "response",
        "responseJsonSchema",
        "responseSchema",
        "schema",
    }
)
"""Members whose inside is the caller's own."""
_MARKED = b"SLB1"


def camel(name: str) -> str:
    """`function_call` as `functionCall`."""
    return _AFTER.sub(lambda match: match.group(1).upper(), name)


def camelled(members: Members) -> dict[str, Value]:
    """The members by their written names. One that is there twice keeps its other name, and so is not known."""
    found: dict[str, Value] = {}
    for given, value in members.items():
        name = camel(given)
        if name != given and (name in members or name in found):
            name = given
        found[name] = value if name in _OPAQUE else _inside(value)
    return found


def _inside(value: Value) -> Value:
    if isinstance(value, dict):
        return camelled(value)
    if isinstance(value, list):
        return [_inside(element) for element in value]
    return value


def shown(signature: str) -> str:
    """Another provider's signature as a client of this dialect is shown it: bytes, in Base64.

    Its clients decode and encode what they echo, and may change its alphabet on the way.
    """
    return base64.b64encode(signature.encode()).decode("ascii")


def echoed(signature: str) -> str:
    """A signature that a client sent back: as `shown` was given it, or as Gemini made it."""
    plain = signature.replace("-", "+").replace("_", "/")
    try:
        found = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return signature
    if not found.startswith(_MARKED):
        return signature
    return found.decode("utf-8", "replace")
