"""Where to: the keys of `[[models]]` that say where a model is served and what it offers there."""

from typing import Annotated

import msgspec

from securellm.core.capabilities import Capability
from securellm.core.surfaces import Surface
from securellm.settings import Field

Retries = Annotated[int, Field(help="further attempts, over all routes, after a failure that can pass", ge=0, le=10)]

Capabilities = Annotated[
    tuple[Capability, ...] | None,
    Field(help="what it can do; a request that needs more is refused (default: not declared, nothing is checked)"),
]
MaxOutput = Annotated[
    int | None, Field(help="tokens it writes at most; a request that asks for more is refused (default: unknown)", ge=1)
]


class RouteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place a model may be served from. The first that can answer does."""

    provider: Annotated[str, Field(help="id of the provider")]
    model: Annotated[
        str,
        Field(
            help="name the provider knows the model by",
            # Some dialects have it in their path, where `..` would name something else of the provider's.
            pattern=r"(?!(.*/)?\.{1,2}(/|$))[!-~]{1,256}",
            shape="1 to 256 printable ASCII characters without spaces, no part of it `.` or `..`",
        ),
    ]
    surfaces: Annotated[
        tuple[Surface, ...] | None,
        Field(
            help="dialects spoken there, others are translated (default: all that its provider's kind speaks)",
            min_items=1,
        ),
    ] = None
    capabilities: Annotated[
        tuple[Capability, ...] | None, Field(help="what the model can do there (default: the model's own)")
    ] = None
    max_output: Annotated[int | None, Field(help="tokens it writes there at most (default: the model's own)", ge=1)] = (
        None
    )
