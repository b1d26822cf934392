"""`securellm completion`: what a shell needs to complete the commands."""

import click
from click.shell_completion import get_completion_class

from securellm.cli.exits import Exit


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL; the shell's start-up file evaluates it.

    bash: eval "$(securellm completion bash)"; zsh, after compinit: eval "$(securellm completion zsh)"; fish: securellm
    completion fish | source
    """
    root = click.get_current_context().find_root()
    found = get_completion_class(shell)
    if found is None:
        click.echo(f"no completion for {shell}", err=True)
        raise SystemExit(Exit.NOT_FOUND)
    click.echo(found(root.command, {}, root.info_name or "securellm", "_SECURELLM_COMPLETE").source())
