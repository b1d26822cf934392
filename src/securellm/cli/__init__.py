"""What an operator types. A command is imported only when it runs, so that help is immediate."""

import gc
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

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
    "budget": _Row("securellm.cli.budget", "Show what tenants have spent."),
    "db": _Row("securellm.cli.db", "See the control plane's schema, and bring it up to date."),
    "completion": _Row("securellm.cli.completion", "Print what a shell needs to complete commands."),
}


class _Commands(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click asks for it
        return list(COMMANDS)

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
