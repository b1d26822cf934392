"""`securellm key`: issue, list, rotate and revoke virtual keys."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from securellm.bootstrap.config import Loaded
from securellm.bootstrap.desk import direct_desk
from securellm.bootstrap.operating import Operator, Problem, Unanswered, running_place, segment
from securellm.bootstrap.wiring import Keys, open_keys, stored_keys
from securellm.cli.exits import Exit, leave
from securellm.cli.operator import asking, operator, operator_options
from securellm.cli.places import config_or_exit, data_dir_or_exit, place_options
from securellm.cli.resource import Resource, add_commands
from securellm.core.clock import SystemClock
from securellm.core.errors import Code, Refusal
from securellm.core.randomness import SystemRandomness
from securellm.core.surfaces import Surface
from securellm.identity import PepperMismatch, VirtualKey
from securellm.secrets import KeyRefused, SecretUnavailable
from securellm.storage import DataDir, DataDirLocked, StorageError


@click.group("key")
def command() -> None:
    """Issue, list, rotate and revoke virtual keys.

    `create`, `list` and `revoke` work on a data folder too that no gateway serves from.
    """


add_commands(
    command,
    Resource(
        noun="virtual key",
        path="/admin/v1/keys",
        columns=("id", "tenant", "prefix", "name"),
        lists=False,
        makes=False,
        removes=False,
    ),
)


@command.command("rotate")
@operator_options
@click.argument("key_id")
@click.option("--overlap", metavar="SECONDS", type=click.IntRange(0), default=0, help="How long the old token works.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rotate(key_id: str, overlap: int, as_json: bool, **places: Any) -> None:
    """Give a key another token, printed now and never again."""
    asked = operator(places)
    path = f"/admin/v1/keys/{segment(key_id)}/rotate"
    answer = asking(lambda: asked.call("POST", path, body={"overlap_seconds": overlap})).body
    click.echo(json.dumps(answer) if as_json else f"{answer['id']}  {answer['token']}")


@command.command("create")
@place_options
@click.option("--tenant", required=True, help="The tenant it belongs to.")
@click.option("--name", default="", help="What people call it.")
@click.option(
    "--model", "models", multiple=True, default=("*",), help="A model it may use; default: all of the tenant's."
)
@click.option(
    "--surface", "surfaces", multiple=True, type=click.Choice([s.value for s in Surface]), help="Default: all."
)
@click.option("--expires", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]), help="UTC; default: never.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def create(
    config: Path | None,
    data_dir: Path | None,
    tenant: str,
    name: str,
    models: tuple[str, ...],
    surfaces: tuple[str, ...],
    expires: datetime | None,
    as_json: bool,
) -> None:
    """Issue a key. Its token is printed now and never again."""
    moment = None if expires is None else expires.replace(tzinfo=UTC)
    asked = {
        "tenant": tenant,
        "name": name,
        "models": list(models),
        "surfaces": list(surfaces),
        "expires_at": None if moment is None else moment.isoformat().replace("+00:00", "Z"),
    }
    body = {member: value for member, value in asked.items() if value}
    data, keys = _open(config, data_dir)
    if config is not None and tenant not in {declared.id for declared in config_or_exit(config).config.tenants}:
        click.echo(f"no [[tenants]] in {config} has the id {tenant}", err=True)
        raise SystemExit(Exit.NOT_FOUND)

    def offline() -> dict[str, Any]:
        with direct_desk(
            data, keys, loaded=_loaded(config), clock=SystemClock(), randomness=SystemRandomness()
        ) as desk:
            issued = desk.create(
                tenant=tenant,
                name=name,
                models=models,
                surfaces=tuple(Surface(surface) for surface in surfaces),
                expires_us=None if moment is None else int(moment.timestamp() * 1_000_000),
            )
        return {**shown(issued.key), "token": issued.token}

    answer = _do(offline, data, keys, "POST", "/admin/v1/keys", body)
    click.echo(json.dumps(answer) if as_json else f"{answer['id']}  {answer['token']}")


@command.command("list")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_command(config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Print every key: id, tenant, recognition prefix, state. Never a token."""
    data, keys = _open(config, data_dir)

    def offline() -> dict[str, Any]:
        with direct_desk(
            data, keys, loaded=_loaded(config), clock=SystemClock(), randomness=SystemRandomness()
        ) as desk:
            return {"data": [shown(key) for key in desk.page(after=None, limit=100_000).keys]}

    def online() -> dict[str, Any]:
        return {"data": list(Operator(running_place(data, keys.admin_token)).items("/admin/v1/keys", {}))}

    answer = _try(offline, online)
    if as_json:
        click.echo(json.dumps(answer))
        return
    for key in answer["data"]:
        state = "revoked" if key.get("revoked_at") else "active"
        click.echo(f"{key['id']}  {key['tenant']}  {key['prefix']}…  {state}  {','.join(key['models'])}")


@command.command("revoke")
@place_options
@click.argument("key_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def revoke(config: Path | None, data_dir: Path | None, key_id: str, as_json: bool) -> None:
    """Refuse a key from now on."""
    data, keys = _open(config, data_dir)

    def offline() -> dict[str, Any]:
        with direct_desk(
            data, keys, loaded=_loaded(config), clock=SystemClock(), randomness=SystemRandomness()
        ) as desk:
            return shown(desk.revoke(key_id))

    answer = _do(offline, data, keys, "POST", f"/admin/v1/keys/{key_id}/revoke", None)
    click.echo(json.dumps(answer) if as_json else f"{key_id} revoked")


def shown(key: VirtualKey) -> dict[str, Any]:
    """A key as commands print it: what the admin API answers."""
    return {
        "id": key.id,
        "tenant": key.tenant,
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


def _loaded(config: Path | None) -> Loaded | None:
    return None if config is None else config_or_exit(config)


def _open(config: Path | None, data_dir: Path | None) -> tuple[DataDir, Keys]:
    try:
        if config is not None and data_dir is None:
            loaded = config_or_exit(config)
            data = DataDir(loaded.data_dir)
            return data, open_keys(loaded, data, SystemRandomness())
        data = DataDir(data_dir_or_exit(config, data_dir))
        return data, stored_keys(data, SystemRandomness())
    except KeyRefused as error:
        leave(error.reason, error.remedy)
    except SecretUnavailable as error:
        leave(str(error), error.remedy)


def _do(
    offline: Callable[[], dict[str, Any]],
    data: DataDir,
    keys: Keys,
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> dict[str, Any]:
    return _try(offline, lambda: Operator(running_place(data, keys.admin_token)).call(method, path, body=body).body)


def _try(offline: Callable[[], dict[str, Any]], online: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        try:
            return offline()
        except DataDirLocked:
            return online()
    except Problem as problem:
        if problem.status == 404:
            click.echo(problem.reason, err=True)
            raise SystemExit(Exit.NOT_FOUND) from None
        leave("; ".join((problem.reason, *problem.fields)), problem.remedy)
    except Unanswered as error:
        leave(error.reason, error.remedy)
    except Refusal as error:
        if error.code is Code.NOT_FOUND:
            click.echo(error.reason, err=True)
            raise SystemExit(Exit.NOT_FOUND) from None
        leave(error.reason, error.remedy)
    except (StorageError, PepperMismatch) as error:
        leave(error.reason, error.remedy)
