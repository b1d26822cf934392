"""Who may ask: `[[tenants]]`, `[[keys]]`, and of `[identity]` the OpenID issuers that vouch for people and services."""

from typing import Annotated, Literal

import msgspec

from securellm.core.surfaces import Surface
from securellm.identity.permissions import Role
from securellm.settings import Field, FilePath, Instant, Seconds, SecretRef
from securellm.settings.fields import ID_PATTERN, ID_SHAPE, NAME_PATTERN, NAME_SHAPE


class TenantSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tenant: whose money, limits, cache and records these are."""

    id: Annotated[
        str, Field(help="name in keys, records and metrics; never reuse one", pattern=ID_PATTERN, shape=ID_SHAPE)
    ]
    name: Annotated[str, Field(help="name people read", pattern=NAME_PATTERN, shape=NAME_SHAPE)] = ""
    models: Annotated[
        tuple[str, ...] | None, Field(help="models it may use (default: every declared model)", min_items=1)
    ] = None


class KeySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One virtual key declared in the file; others are made through the admin API."""

    tenant: Annotated[str, Field(help="id of the tenant it belongs to")]
    secret: Annotated[SecretRef, Field(help="where the key itself is; at least 8 characters, better 24")]
    models: Annotated[tuple[str, ...], Field(help='models it may use; `["*"]` is all of its tenant\'s', min_items=1)]
    name: Annotated[str, Field(help="name people read", pattern=NAME_PATTERN, shape=NAME_SHAPE)] = ""
    surfaces: Annotated[tuple[Surface, ...] | None, Field(help="surfaces it may use (default: all)", min_items=1)] = (
        None
    )
    expires: Annotated[Instant | None, Field(help="moment from which it is refused (default: never)")] = None


Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]


class RoleMapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One role for everyone whom the issuer puts into a group."""

    group: Annotated[str, Field(help="name of the group, exactly as the issuer writes it")]
    role: Annotated[Role, Field(help="role its members hold")]
    tenant: Annotated[str | None, Field(help="id of the tenant they hold it in (default: the installation)")] = None
    project: Annotated[str | None, Field(help="id of the tenant's project they hold it in (default: all)")] = None


class LoginSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How people log in through this issuer: authorization code with PKCE."""

    client_id: Annotated[str, Field(help="what the issuer calls this gateway")]
    client_secret: Annotated[SecretRef | None, Field(help="the client's secret (default: a public client)")] = None
    redirect_uri: Annotated[str, Field(help="address of `/admin/v1/login/callback`, exactly as registered there")]
    scopes: Annotated[tuple[str, ...], Field(help="scopes asked for; `openid` is one of them", min_items=1)] = (
        "openid",
        "profile",
        "email",
    )


class IssuerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One OpenID issuer. A token is believed only when it is exactly as written here."""

    id: Annotated[str, Field(help="name in records and addresses", pattern=ID_PATTERN, shape=ID_SHAPE)]
    issuer: Annotated[str, Field(help="its `iss`, letter by letter; https, or http on loopback")]
    audience: Annotated[
        str | None, Field(help="the `aud` of tokens sent to this gateway as bearer (default: none is taken)")
    ] = None
    jwks_uri: Annotated[
        str | None, Field(help="address of its keys (default: found by OpenID discovery under the issuer)")
    ] = None
    algorithms: Annotated[tuple[Algorithm, ...], Field(help="signature algorithms believed", min_items=1)] = (
        "RS256",
        "PS256",
        "ES256",
        "EdDSA",
    )
    tenant: Annotated[
        str | None, Field(help="id of the only tenant it vouches for (default: the whole installation)")
    ] = None
    groups_claim: Annotated[str, Field(help="claim that lists groups; `/a/b` is member b of claim a")] = "groups"
    roles: Annotated[
        tuple[RoleMapping, ...], Field(help="roles by group; who is in none holds granted roles only")
    ] = ()
    provision: Annotated[
        bool, Field(help="whether a login makes unknown people known, when a group gives them a role")
    ] = True
    acr: Annotated[tuple[str, ...], Field(help="authentication contexts accepted (default: any)")] = ()
    amr: Annotated[tuple[str, ...], Field(help="authentication methods of which one is asked for (default: none)")] = ()
    clock_skew: Annotated[Seconds, Field(help="by how much clocks may differ", ge=0, le=300)] = Seconds(30.0)
    refresh: Annotated[Seconds, Field(help="age at which its keys are read again", ge=60, le=86400)] = Seconds(600.0)
    max_age: Annotated[
        Seconds, Field(help="age at which keys that could not be read again are believed no more", ge=60, le=604800)
    ] = Seconds(86400.0)
    ca_file: Annotated[FilePath | None, Field(help="PEM certificates trusted in place of the system's")] = None
    login: Annotated[LoginSettings | None, Field(help="how people log in through it (default: nobody does)")] = None


class IdentitySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """People and services."""

    issuers: Annotated[tuple[IssuerSettings, ...], Field(help="OpenID issuers, each an `[[identity.issuers]]`")] = ()
    session_idle: Annotated[
        Seconds, Field(help="longest pause after which a login still counts; read at start", ge=60, le=86400)
    ] = Seconds(1800.0)
    session_life: Annotated[
        Seconds, Field(help="longest time that one login counts; read at start", ge=300, le=604800)
    ] = Seconds(43200.0)
    origins: Annotated[
        tuple[str, ...],
        Field(help="origins whose pages may change things in a session (default: the admin listener's)"),
    ] = ()
