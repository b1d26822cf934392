"""`securellm secret`: where the configuration's secrets come from, and whether they can be had. Never a value."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from securellm.bootstrap.config import Loaded
from securellm.cli.exits import Exit
from securellm.cli.operator import printed
from securellm.cli.places import config_option, config_or_exit
from securellm.cli.resource import listed
from securellm.secrets import SecretUnavailable
from securellm.settings import SecretRef


@click.group()
def command() -> None:
    """Say where secrets come from, and whether they can be had. Their values are never printed."""


@command.command("list")
@config_option("The configuration file", required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_command(config: Path, as_json: bool) -> None:
    """Ask for every secret that the configuration refers to. Exits 1 when one of them cannot be had."""
    loaded = config_or_exit(config, resolving=False)
    vault = loaded.config.secrets.vault
    unasked = set() if vault is None or vault.auth == "kubernetes" else {"secrets.vault.jwt"}
    found = [_tried(loaded, where, ref) for where, ref in _references(loaded.config, "") if where not in unasked]
    if as_json:
        printed({"secrets": found})
    else:
        listed(("used_by", "reference", "problem"), [{**row, "problem": row["problem"] or "ok"} for row in found])
        for remedy in dict.fromkeys(row["remedy"] for row in found if row["remedy"]):
            click.echo(f"  {remedy}", err=True)
    if any(row["problem"] for row in found):
        raise SystemExit(Exit.UNHEALTHY)


def _tried(loaded: Loaded, where: str, ref: SecretRef) -> dict[str, Any]:
    problem = remedy = None
    try:
        loaded.resolver.resolve(ref)
    except SecretUnavailable as error:
        problem, remedy = error.reason, error.remedy
    return {"used_by": where, "reference": str(ref), "problem": problem, "remedy": remedy}


def _references(value: object, where: str) -> Iterator[tuple[str, SecretRef]]:
    """Every reference below `value`, with the path of the member that holds it."""
    if isinstance(value, SecretRef):
        yield where, value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _references(getattr(value, name), f"{where}.{name}" if where else name)
    elif isinstance(value, tuple | list):
        for number, item in enumerate(value):
            yield from _references(item, f"{where}[{number}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _references(item, f"{where}.{name}")
