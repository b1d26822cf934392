"""`securellm config`: check a configuration file before anything depends on it."""

import json
from collections.abc import Iterable
from pathlib import Path

import click

from securellm.bootstrap.config import config_digest, open_config
from securellm.cli.exits import Exit
from securellm.settings import ConfigError, Problem
from securellm.settings.loader import located


@click.group()
def command() -> None:
    """Check a configuration file."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(file: Path, *, as_json: bool) -> None:
    """Read FILE as `serve` would and print every problem, each with its line, key and remedy.

    Secrets are resolved, and never printed. Exits 0 when a gateway could start from FILE, 2 otherwise.
    """
    try:
        loaded = open_config(file)
    except ConfigError as error:
        if as_json:
            _print_json(file, problems=error.problems)
        else:
            for line in error.lines():
                click.echo(line)
            click.echo(f"{len(error.problems)} to correct")
        raise SystemExit(Exit.PROBLEMS) from None
    digest = config_digest(loaded.config)
    if as_json:
        _print_json(file, warnings=loaded.warnings, digest=digest)
        return
    for warning in loaded.warnings:
        click.echo(f"warning: {located(str(loaded.path), warning)}")
    click.echo(f"{loaded.path}: ok, digest {digest}")


def _print_json(
    file: Path, *, problems: Iterable[Problem] = (), warnings: Iterable[Problem] = (), digest: str | None = None
) -> None:
    def rows(found: Iterable[Problem]) -> list[dict[str, object]]:
        return [{name: getattr(problem, name) for name in Problem.__struct_fields__} for problem in found]

    answer = {
        "file": str(file.absolute()),
        "ok": digest is not None,
        "digest": digest,
        "problems": rows(problems),
        "warnings": rows(warnings),
    }
    click.echo(json.dumps(answer, ensure_ascii=False))
