"""Who may ask: the keys of `[[tenants]]` and `[[keys]]` that identity and policy read."""

from typing import Annotated

import msgspec

from securellm.core.surfaces import Surface
from securellm.settings import Field, Instant, SecretRef
from securellm.settings.fields import ID_PATTERN, ID_SHAPE


class TenantSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tenant: whose money, limits, cache and records these are."""

    id: Annotated[
        str, Field(help="name in keys, records and metrics; never reuse one", pattern=ID_PATTERN, shape=ID_SHAPE)
    ]
    name: Annotated[str, Field(help="name people read")] = ""
    models: Annotated[
        tuple[str, ...] | None, Field(help="models it may use (default: every declared model)", min_items=1)
    ] = None


class KeySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One virtual key declared in the file; others are made through the admin API."""

    tenant: Annotated[str, Field(help="id of the tenant it belongs to")]
    secret: Annotated[SecretRef, Field(help="where the key itself is; at least 8 characters, better 24")]
    models: Annotated[tuple[str, ...], Field(help='models it may use; `["*"]` is all of its tenant\'s', min_items=1)]
    name: Annotated[str, Field(help="name people read")] = ""
    surfaces: Annotated[tuple[Surface, ...] | None, Field(help="surfaces it may use (default: all)", min_items=1)] = (
        None
    )
    expires: Annotated[Instant | None, Field(help="moment from which it is refused (default: never)")] = None
