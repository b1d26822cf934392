"""What an operator types. A command is imported only when it runs, so that help is immediate."""

from importlib import import_module
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
    "config": _Row("securellm.cli.config", "Check a configuration file."),
    "doctor": _Row("securellm.cli.doctor", "Say what is wrong here, and what to back up."),
    "audit": _Row("securellm.cli.audit", "Verify, read and export the audit log."),
    "key": _Row("securellm.cli.key", "Create, list and revoke virtual keys."),
    "provider": _Row("securellm.cli.provider", "Try a provider with one governed call."),
    "budget": _Row("securellm.cli.budget", "Show what tenants have spent."),
}


class _Commands(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click asks for it
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click asks for it
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        command = import_module(row.module).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click asks for it
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.help) for name, row in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="securellm")
def main() -> None:
    """The governed gateway in front of every model."""
