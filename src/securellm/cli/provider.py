"""`securellm provider`: see and change providers, and try one before users do."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securellm.cli.exits import Exit, leave
from securellm.cli.places import config_option, config_or_exit
from securellm.cli.resource import Resource, add_commands
from securellm.core.errors import Code, GatewayError
from securellm.core.surfaces import Surface

if TYPE_CHECKING:
    from securellm.bootstrap.trial import Trial


@click.group("provider")
def command() -> None:
    """See, change and try providers, in the words of the configuration file."""


add_commands(
    command,
    Resource(
        noun="provider",
        path="/admin/v1/providers",
        columns=("id", "kind", "base_url", "credential", "managed_by"),
        members="id*, kind*, base_url, credential, timeouts, ca_file, client_cert, client_key, proxy, limits",
        changing="kind, base_url, credential, timeouts, ca_file, client_cert, client_key, proxy, limits",
        four_eyes=True,
    ),
)


@command.command("test")
@config_option("The configuration file", required=True)
@click.argument("provider")
@click.option("--live", is_flag=True, required=True, help="Yes, call the real provider; it may cost money.")
@click.option("--model", help="Which of the models served from it (default: the first).")
@click.option("--surface", type=click.Choice([s.value for s in Surface]), help="Default: the first it speaks.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def test(
    config: Path,
    provider: str,
    live: bool,  # noqa: ARG001 - required, so always set
    model: str | None,
    surface: str | None,
    as_json: bool,
) -> None:
    """One governed call to PROVIDER: reserved, screened, sent, settled and recorded like any other.

    The gateway must not be running on the same data folder. Exits 0 when the provider answered, 1 when not.
    """
    from securellm.bootstrap.trial import try_provider
    from securellm.cli.running import opening

    application = opening(config_or_exit(config))
    try:
        trial = asyncio.run(
            try_provider(application, provider, model=model, surface=None if surface is None else Surface(surface))
        )
    except GatewayError as error:
        if error.code is Code.NOT_FOUND:
            click.echo(error.reason, err=True)
            raise SystemExit(Exit.NOT_FOUND) from None
        leave(error.reason, error.remedy)
    finally:
        application.close()
    answered = trial.status == 200
    click.echo(json.dumps(_shown(trial)) if as_json else _told(trial), err=not answered and not as_json)
    raise SystemExit(Exit.OK if answered else Exit.UNHEALTHY)


def _shown(trial: "Trial") -> dict[str, object]:
    return {
        "provider": trial.provider,
        "model": trial.model,
        "model_served": trial.headers.get("x-securellm-model"),
        "surface": trial.surface.value,
        "status": trial.status,
        "code": trial.headers.get("x-securellm-code"),
        "request_id": trial.headers.get("x-request-id"),
        "cost_nanos": trial.headers.get("x-securellm-cost-nanos"),
    }


def _told(trial: "Trial") -> str:
    request_id = trial.headers.get("x-request-id")
    if trial.status == 200:
        served = trial.headers.get("x-securellm-model")
        return f"{trial.provider} answers on {trial.surface.value}: {trial.model} is served as {served} ({request_id})"
    try:
        error = json.loads(trial.body)["error"]
        message = error if isinstance(error, str) else error["message"]
    except (ValueError, KeyError, TypeError):
        message = f"status {trial.status}"
    return f"{trial.provider} does not answer on {trial.surface.value}: {message} ({request_id})"
