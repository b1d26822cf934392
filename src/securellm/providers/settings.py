"""How to reach each upstream: the keys of `[[providers]]` that providers and transport read."""

from typing import Annotated

import msgspec

from securellm.settings import Field, FilePath, Seconds, SecretRef
from securellm.settings.fields import ID_PATTERN, ID_SHAPE

_LEAST = 0.001
_DAY = 86_400


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long one attempt may take, in seconds; each stands alone and none can be switched off."""

    connect: Annotated[Seconds, Field(help="until connected, TLS included", ge=_LEAST, le=_DAY)] = Seconds(2.0)
    first_byte: Annotated[
        Seconds, Field(help="from the request's last byte to the answer's first", ge=_LEAST, le=_DAY)
    ] = Seconds(30.0)
    idle: Annotated[Seconds, Field(help="between two pieces of an answer", ge=_LEAST, le=_DAY)] = Seconds(30.0)
    total: Annotated[Seconds, Field(help="the whole attempt", ge=_LEAST, le=_DAY)] = Seconds(600.0)


class RouteTimeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One route's own timeouts; an absent one is its provider's."""

    connect: Annotated[Seconds | None, Field(help="until connected, TLS included", ge=_LEAST, le=_DAY)] = None
    first_byte: Annotated[
        Seconds | None, Field(help="from the request's last byte to the answer's first", ge=_LEAST, le=_DAY)
    ] = None
    idle: Annotated[Seconds | None, Field(help="between two pieces of an answer", ge=_LEAST, le=_DAY)] = None
    total: Annotated[Seconds | None, Field(help="the whole attempt", ge=_LEAST, le=_DAY)] = None

    def over(self, provider: Timeouts) -> Timeouts:
        """The provider's timeouts with this route's own put over them."""
        return Timeouts(
            connect=provider.connect if self.connect is None else self.connect,
            first_byte=provider.first_byte if self.first_byte is None else self.first_byte,
            idle=provider.idle if self.idle is None else self.idle,
            total=provider.total if self.total is None else self.total,
        )


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One upstream."""

    id: Annotated[str, Field(help="name in routes, records and metrics", pattern=ID_PATTERN, shape=ID_SHAPE)]
    kind: Annotated[str, Field(help="how it is spoken to: one of the kinds above")]
    base_url: Annotated[str | None, Field(help="where it is (default: the kind's own, where it has one)")] = None
    credential: Annotated[SecretRef | None, Field(help="where the provider credential is")] = None
    timeouts: Annotated[Timeouts, Field(help="how long one attempt may take")] = msgspec.field(default_factory=Timeouts)
    ca_file: Annotated[
        FilePath | None, Field(help="PEM file of the authorities that may sign its certificate (default: the system's)")
    ] = None
    client_cert: Annotated[FilePath | None, Field(help="PEM file of the certificate we show it")] = None
    client_key: Annotated[FilePath | None, Field(help="PEM file of that certificate's key")] = None
    proxy: Annotated[
        str | None, Field(help="`http://host:port` to CONNECT through (default: none; never from the environment)")
    ] = None
