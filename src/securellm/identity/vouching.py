"""Pure decisions about OpenID issuers: what a configuration may say, and which roles a group gives."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from securellm.core.document import Value
from securellm.identity.people import Grant
from securellm.identity.settings import IdentitySettings, IssuerSettings
from securellm.settings import is_loopback
from securellm.transport import Target, parse_base_url

MOST_GROUPS = 500
"""Groups of one token that are looked at; beyond, none is: a cut list could hide the one that matters."""

_LONGEST_GROUP = 256


class Flaw(NamedTuple):
    """What is wrong with `[identity]`, and where."""

    place: tuple[str | int, ...]
    reason: str
    remedy: str


def split_address(url: str, *, like: str | None = None) -> tuple[Target, str]:
    """Where to connect and what to ask for. Raises ValueError with what is wrong, quoting nothing.

    TLS is a must, except for an address on loopback; with `like`, only where that one is on loopback too.
    """
    base, mark, query = url.partition("?")
    target = parse_base_url(base)
    if mark and not all("!" <= character <= "~" and character not in "#\\" for character in query):
        raise ValueError("the query holds an illegal character")
    if target.scheme == "http":
        if not is_loopback(target.host):
            raise ValueError("it must begin with https://")
        if like is not None and parse_base_url(like).scheme != "http":
            raise ValueError("an issuer with TLS names no address without it")
    # As it is written: `parse_base_url` drops a slash at the end, which may mean something here.
    _, slash, path = base.partition("://")[2].partition("/")
    return target, f"{slash or '/'}{path}{mark}{query}"


def groups_of(issuer: IssuerSettings, claims: Mapping[str, Value]) -> tuple[str, ...]:
    """The groups that the issuer maps to roles and that these claims list, each once."""
    value: Value = dict(claims)
    name = issuer.groups_claim
    for step in name[1:].split("/") if name.startswith("/") else [name]:
        value = value.get(step) if isinstance(value, dict) else None
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > MOST_GROUPS:
        return ()
    known = {mapping.group for mapping in issuer.roles}
    return tuple(dict.fromkeys(group for group in listed if isinstance(group, str) and group in known))


def mapped_grants(issuer: IssuerSettings, groups: Iterable[str], principal: str) -> tuple[Grant, ...]:
    """What these groups give: what the configuration lists for them and nothing else."""
    held = frozenset(groups)
    return tuple(
        Grant(
            id=f"mapped_{issuer.id}_{index}",
            principal=principal,
            role=mapping.role,
            tenant=mapping.tenant,
            project=mapping.project,
            created_us=0,
            created_by=f"issuer:{issuer.id}",
        )
        for index, mapping in enumerate(issuer.roles)
        if mapping.group in held
    )


def flaws_of(settings: IdentitySettings) -> Sequence[Flaw]:
    """Everything that is wrong with `[identity]`."""
    flaws: list[Flaw] = []
    seen: dict[str, set[str]] = {"id": set(), "issuer": set()}
    for index, issuer in enumerate(settings.issuers):
        place = ("identity", "issuers", index)
        for name, value in (("id", issuer.id), ("issuer", issuer.issuer)):
            if value in seen[name]:
                flaws.append(Flaw((*place, name), "another issuer has it already", f"give each issuer its own {name}"))
            seen[name].add(value)
        flaws += _flawed_addresses(place, issuer)
        if issuer.max_age < issuer.refresh:
            flaws.append(Flaw((*place, "max_age"), "is shorter than `refresh`", "keys must live to their next reading"))
        for number, mapping in enumerate(issuer.roles):
            within = (*place, "roles", number)
            if not mapping.group or len(mapping.group) > _LONGEST_GROUP:
                flaws.append(Flaw((*within, "group"), "is not the name of a group", "write it as the issuer does"))
            if issuer.tenant is not None and mapping.tenant != issuer.tenant:
                flaws.append(
                    Flaw((*within, "tenant"), "the issuer vouches for one tenant only", "name that tenant here too")
                )
            if mapping.project is not None and mapping.tenant is None:
                flaws.append(Flaw((*within, "project"), "a project is one of a tenant", "name the tenant too"))
        login = issuer.login
        if login is None:
            continue
        if "openid" not in login.scopes:
            flaws.append(Flaw((*place, "login", "scopes"), "lack `openid`", 'add "openid"'))
        if login.client_id == issuer.audience:
            # Else what is given to a browser at login would be a credential for the API.
            flaws.append(
                Flaw((*place, "audience"), "is the client's id", "have the issuer write another `aud` for the API")
            )
    for number, origin in enumerate(settings.origins):
        if origin_of(origin) != origin:
            flaws.append(Flaw(("identity", "origins", number), "is not an origin", 'write "https://host[:port]"'))
    return flaws


def origin_of(url: str) -> str | None:
    """The origin of an address, as a browser writes it; None where it has none."""
    try:
        target = parse_base_url(url)
    except ValueError:
        return None
    host = f"[{target.host}]" if ":" in target.host else target.host
    implied = {"http": 80, "https": 443}[target.scheme]
    return f"{target.scheme}://{host}" if target.port == implied else f"{target.scheme}://{host}:{target.port}"


def _flawed_addresses(place: tuple[str | int, ...], issuer: IssuerSettings) -> list[Flaw]:
    addresses: dict[tuple[str, ...], str] = {("issuer",): issuer.issuer}
    if issuer.jwks_uri is not None:
        addresses[("jwks_uri",)] = issuer.jwks_uri
    if issuer.login is not None:
        addresses[("login", "redirect_uri")] = issuer.login.redirect_uri
    flaws: list[Flaw] = []
    for step, address in addresses.items():
        try:
            split_address(address)
        except ValueError as error:
            flaws.append(Flaw((*place, *step), str(error), 'write an address such as "https://login.example.com"'))
    return flaws
