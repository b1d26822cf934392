"""`securellm key`: issue, list, rotate and revoke virtual keys."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from securellm.bootstrap.operating import Operator, segment
from securellm.cli.exits import leave
from securellm.cli.operator import asking, keys_on_this_host, operator, operator_options, refused, warned
from securellm.cli.places import config_or_exit, in_force_or_exit
from securellm.cli.resource import Resource, add_commands, listed
from securellm.core.clock import SystemClock
from securellm.core.errors import Code, Refusal
from securellm.core.randomness import SystemRandomness
from securellm.core.surfaces import Surface
from securellm.identity import VirtualKey
from securellm.storage import DataDirLocked, StorageError

if TYPE_CHECKING:
    from securellm.bootstrap.desk import KeyDesk  # imported when a folder is opened: most ask a gateway

_KEYS = "/admin/v1/keys"


@click.group("key")
def command() -> None:
    """Issue, list, rotate and revoke virtual keys.

    `create`, `list` and `revoke` work on a data folder too that no gateway serves from.
    """


add_commands(
    command,
    Resource(
        noun="virtual key",
        path=_KEYS,
        columns=(),
        changing="name, models, surfaces, ip_ranges, expires_at",
        lists=False,
        makes=False,
    ),
)


@command.command("rotate")
@operator_options
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap",
    metavar="SECONDS",
    type=click.IntRange(0, 30 * 86400),
    default=0,
    show_default=True,
    help="How long the old token goes on working, 30 days at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rotate(key_id: str, overlap: int, as_json: bool, **places: Any) -> None:
    """Give a key another token. Its id and the new token are printed, the token now and never again."""
    asked = operator(places)
    path = f"{_KEYS}/{segment(key_id)}/rotate"
    answer = asking(lambda: asked.call("POST", path, body={"overlap_seconds": overlap})).body
    warned(answer)
    click.echo(json.dumps(answer) if as_json else f"{answer['id']}  {answer['token']}")


@command.command("create")
@operator_options
@click.option("--tenant", required=True, help="The tenant it belongs to.")
@click.option("--project", help="The project of the tenant that it belongs to.")
@click.option("--user", help="The person it is for: their preferences and memories are theirs.")
@click.option("--name", default="", help="What people call it.")
@click.option(
    "--model", "models", multiple=True, default=("*",), help="A model it may use; default: all of the tenant's."
)
@click.option(
    "--surface",
    "surfaces",
    metavar="SURFACE",
    multiple=True,
    type=click.Choice([s.value for s in Surface]),
    help="Where it may be used, such as chat, responses, messages or embeddings; default: everywhere.",
)
@click.option("--ip-range", "ip_ranges", multiple=True, help="A network it may be presented from; default: any.")
@click.option(
    "--expires",
    metavar="MOMENT",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]),
    help="UTC, such as 2027-01-31 or 2027-01-31T18:00:00Z; default: never.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def create(
    tenant: str,
    project: str | None,
    user: str | None,
    name: str,
    models: tuple[str, ...],
    surfaces: tuple[str, ...],
    ip_ranges: tuple[str, ...],
    expires: datetime | None,
    as_json: bool,
    **places: Any,
) -> None:
    """Issue a key. Its id and its token are printed, the token now and never again."""
    moment = None if expires is None else expires.replace(tzinfo=UTC)
    asked = {
        "tenant": tenant,
        "project": project,
        "user": user,
        "name": name,
        "models": list(models),
        "surfaces": list(surfaces),
        "ip_ranges": list(ip_ranges),
        "expires_at": None if moment is None else moment.isoformat().replace("+00:00", "Z"),
    }
    body = {member: value for member, value in asked.items() if value}

    def offline(desk: "KeyDesk") -> dict[str, Any]:
        if project or user or ip_ranges:
            leave("no gateway runs here", "Start it: --project, --user and --ip-range ask it.")
        config = places["config"]
        warnings = [] if config is None else _unusable(config, tenant, models)
        expires_us = None if moment is None else int(moment.timestamp() * 1_000_000)
        if expires_us is not None and expires_us <= SystemClock().now_us():
            raise Refusal(Code.INVALID_REQUEST, "the key would have expired already")
        issued = desk.create(
            tenant=tenant,
            name=name,
            models=models,
            surfaces=tuple(Surface(surface) for surface in surfaces),
            expires_us=expires_us,
        )
        return {**shown(issued.key), "warnings": warnings, "token": issued.token}

    answer = _done(places, offline, lambda asked: asked.call("POST", _KEYS, body=body).body)
    warned(answer)
    click.echo(json.dumps(answer) if as_json else f"{answer['id']}  {answer['token']}")


@command.command("list")
@operator_options
@click.option("--tenant", help="Only those of this tenant.")
@click.option("--project", help="Only those of this project of the tenant.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_command(tenant: str | None, project: str | None, as_json: bool, **places: Any) -> None:
    """List every key you may see: id, tenant, recognition prefix, state. Never a token."""
    wanted = {name: value for name, value in (("tenant", tenant), ("project", project)) if value is not None}

    def offline(desk: "KeyDesk") -> dict[str, Any]:
        return {"data": [shown(key) for key in desk.keys(tenant=tenant, project=project)]}

    answer = _done(places, offline, lambda asked: {"data": list(asked.items(_KEYS, wanted))})
    if as_json:
        click.echo(json.dumps(answer))
        return
    now = datetime.fromtimestamp(SystemClock().now_us() / 1_000_000, tz=UTC)
    rows = [{**row, "prefix": f"{row['prefix']}…", "state": _state(row, now)} for row in answer["data"]]
    listed(("id", "tenant", "name", "prefix", "state", "models", "expires_at"), rows)


@command.command("revoke")
@operator_options
@click.argument("key_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def revoke(key_id: str, as_json: bool, **places: Any) -> None:
    """Refuse a key from now on, in requests that run as well."""
    path = f"{_KEYS}/{segment(key_id)}/revoke"
    answer = _done(places, lambda desk: shown(desk.revoke(key_id)), lambda asked: asked.call("POST", path).body)
    click.echo(json.dumps(answer) if as_json else f"{key_id} revoked")


def _unusable(config: Path, tenant: str, models: tuple[str, ...]) -> list[str]:
    """What the admin API would warn of. Raises `Refusal` (NOT_FOUND) where there is no such tenant."""
    known = in_force_or_exit(config).config
    found = next((one for one in known.tenants if one.id == tenant), None)
    if found is None:
        raise Refusal(Code.NOT_FOUND, f"neither {config} nor the control plane has a tenant {tenant}")
    usable = set(known.models_of(found)) & {model.name for model in known.models}
    return [f"{tenant} has no model called {name} now" for name in models if name not in usable and name != "*"]


def _state(key: dict[str, Any], now: datetime) -> str:
    if key.get("revoked_at"):
        return "revoked"
    expiry = key.get("expires_at")
    return "expired" if expiry is not None and datetime.fromisoformat(expiry) <= now else "active"


def shown(key: VirtualKey) -> dict[str, Any]:
    """A key as commands print it: what the admin API answers."""
    return {
        "id": key.id,
        "tenant": key.tenant,
        "project": key.project,
        "name": key.name,
        "prefix": key.prefix,
        "models": list(key.models),
        "surfaces": [surface.value for surface in key.surfaces],
        "created_at": _moment(key.created_us),
        "expires_at": _moment(key.expires_us),
        "revoked_at": _moment(key.revoked_us),
        "managed_by": key.managed_by,
    }


def _moment(us: int | None) -> str | None:
    return None if us is None else datetime.fromtimestamp(us / 1_000_000, tz=UTC).isoformat().replace("+00:00", "Z")


def _done(
    places: dict[str, Any], offline: "Callable[[KeyDesk], dict[str, Any]]", online: Callable[[Operator], dict[str, Any]]
) -> dict[str, Any]:
    """What was done: in the data folder when no gateway runs on it, else by the gateway."""
    config, data_dir = places["config"], places["data_dir"]
    if config is None and data_dir is None:
        return _asked(places, online)
    from securellm.bootstrap.desk import direct_desk

    data, keys = keys_on_this_host(config, data_dir)
    loaded = None if config is None else config_or_exit(config, resolving=False)
    try:
        with direct_desk(data, keys, loaded=loaded, clock=SystemClock(), randomness=SystemRandomness()) as desk:
            return offline(desk)
    except DataDirLocked:
        return _asked(places, online)
    except (Refusal, StorageError) as error:
        if isinstance(error, Refusal):
            refused(error.code.value, error.reason, error.remedy, status=error.status)
        leave(error.reason, error.remedy)


def _asked(places: dict[str, Any], online: Callable[[Operator], dict[str, Any]]) -> dict[str, Any]:
    asked = operator(places)
    answer: dict[str, Any] = asking(lambda: online(asked))
    return answer
