"""The configuration of policy: where the bundles are that the file declares."""

from typing import Annotated

import msgspec

from securellm.settings import Field, FilePath


class PolicySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bundles of Cedar policies: folders, or files of JSON. What stands here cannot be changed through the API."""

    bundle: Annotated[
        FilePath | None, Field(help="the bundle in force: it must permit what is asked (default: none)")
    ] = None
    shadow: Annotated[
        FilePath | None, Field(help="a bundle that is asked beside it and decides nothing (default: none)")
    ] = None
