"""What an operator types. A command is imported only when it runs, so that help is immediate."""

import difflib
import gc
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import click

from securellm import __version__


class _Row(NamedTuple):
    module: str
    """Where `command`, a click.Command, is."""
    help: str


COMMANDS = {
    "serve": _Row("securellm.cli.serve", "Run the gateway."),
    "demo": _Row("securellm.cli.demo", "Run a gateway with demo data and no API key."),
    "config": _Row("securellm.cli.config", "Check, explain and compare configuration files."),
    "doctor": _Row("securellm.cli.doctor", "Say what is wrong here, and what to back up."),
    "audit": _Row("securellm.cli.audit", "Verify, read and export the audit log."),
    "tenant": _Row("securellm.cli.tenant", "See and change tenants."),
    "project": _Row("securellm.cli.project", "See and change the projects of a tenant."),
    "key": _Row("securellm.cli.key", "Issue, rotate and revoke virtual keys."),
    "setup": _Row("securellm.cli.setup", "Become the first owner of a gateway on this host."),
    "whoami": _Row("securellm.cli.whoami", "Say as whom the commands speak, and with which roles."),
    "user": _Row("securellm.cli.user", "See, invite and change people."),
    "service": _Row("securellm.cli.service", "See and change service identities."),
    "role": _Row("securellm.cli.role", "See who holds which role, grant and drop one."),
    "token": _Row("securellm.cli.token", "Issue and revoke access tokens of the admin API."),
    "approval": _Row("securellm.cli.approval", "Decide what takes two people."),
    "provider": _Row("securellm.cli.provider", "See, change and try providers."),
    "model": _Row("securellm.cli.model", "See and change models."),
    "preference": _Row("securellm.cli.preference", "See and clear what people asked to be remembered."),
    "secret": _Row("securellm.cli.secret", "Say where secrets come from, and whether they can be had."),
    "policy": _Row("securellm.cli.policy", "Try, compare and explain bundles of policies."),
    "budget": _Row("securellm.cli.budget", "See what tenants have spent, and what they may."),
    "limit": _Row("securellm.cli.limit", "See and change how fast may be asked."),
    "db": _Row("securellm.cli.db", "See the control plane's schema, and bring it up to date."),
    "completion": _Row("securellm.cli.completion", "Print what a shell needs to complete commands."),
}


class _Commands(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click asks for it
        return list(COMMANDS)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            status = "INTERRUPTED"
        except PermissionError as error:
            import_module("securellm.cli.places").forbidden(error)
        except BrokenPipeError:
            # What is still in the buffer has no reader either; at the end Python would complain of it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = "UNREAD"
        raise SystemExit(import_module("securellm.cli.exits").Exit[status])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and (near := difflib.get_close_matches(args[0], COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(near)}?")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click asks for it
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        command = _imported(row.module).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click asks for it
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.help) for name, row in COMMANDS.items()])


def _imported(module: str) -> ModuleType:
    # What an import makes stays: nothing is gained by looking through it for garbage, neither meanwhile nor later.
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="securellm")
def main() -> None:
    """The governed gateway in front of every model."""
