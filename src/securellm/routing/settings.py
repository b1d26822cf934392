"""Where to: the keys `route` and `retries` of `[[models]]`."""

from typing import Annotated

import msgspec

from securellm.settings import Field

Retries = Annotated[int, Field(help="further attempts, over all routes, after a failure that can pass", ge=0, le=10)]


class RouteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place a model may be served from. The first that can answer does."""

    provider: Annotated[str, Field(help="id of the provider")]
    model: Annotated[
        str,
        Field(
            help="name the provider knows the model by",
            pattern=r"[!-~]{1,256}",
            shape="1 to 256 printable ASCII characters without spaces",
        ),
    ]
