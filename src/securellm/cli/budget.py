"""`securellm budget`: what tenants have spent, as the ledger says."""

import json
import re
from pathlib import Path

import click

from securellm.cli.exits import leave
from securellm.cli.places import data_dir_or_exit, in_force_or_exit, place_options
from securellm.cli.resource import Resource, add_commands
from securellm.core.money import format_amount
from securellm.storage import DataDir, StorageError

_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


@click.group("budget")
def command() -> None:
    """See what tenants have spent, and what they and their projects, keys and people may spend."""


add_commands(
    command,
    Resource(
        noun="budget",
        path="/admin/v1/tenants/{tenant}/budgets",
        key="target",
        named="SCOPE:TARGET",
        columns=("scope", "target", "month", "hard"),
        members="scope* (tenant, project, key or user), target*, month*, hard",
        changing="month, hard",
    ),
)


@command.command("show")
@place_options
@click.option("--period", help="A UTC month such as 2026-11 (default: all).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; amounts in nanos.")
def show(config: Path | None, data_dir: Path | None, period: str | None, as_json: bool) -> None:
    """Settled, presumed and held amounts by tenant and month, and the batches that are not settled yet.

    With --config also what remains.
    """
    if period is not None and not _MONTH.fullmatch(period):
        raise click.UsageError("--period takes a month such as 2026-11")
    from securellm.bootstrap.compiling import budgets_of
    from securellm.finops import budget_report, load
    from securellm.storage import open_readonly

    path = DataDir(data_dir_or_exit(config, data_dir)).audit
    budgets = {} if config is None else budgets_of(in_force_or_exit(config).config)
    try:
        with open_readonly(path) as connection:
            state = load(connection)
    except StorageError as error:
        leave(error.reason, error.remedy)
    lines = budget_report(state, budgets, period=period)
    pledges = [pledge for pledge in state.pledges if period is None or pledge.period == period]
    if as_json:
        rows = [{name: getattr(line, name) for name in line.__struct_fields__} for line in lines]
        click.echo(json.dumps({"budgets": rows, "batches": [pledge._asdict() for pledge in pledges]}))
        return
    if not lines:
        click.echo("nothing spent yet" if period is None else f"nothing spent in {period}", err=True)
    for line in lines:
        amounts = ", ".join(
            f"{name} {format_amount(getattr(line, name), line.currency)}" for name in ("settled", "presumed", "held")
        )
        if line.open_batches:
            pledged = format_amount(line.pledged, line.currency)
            amounts += f" (of presumed, {pledged} for unsettled batches: {line.open_batches})"
        rest = "" if line.remaining is None else f", remaining {format_amount(line.remaining, line.currency)}"
        click.echo(f"{line.tenant} {line.period}: {amounts}{rest}")
    for pledge in pledges:
        amount = format_amount(pledge.amount, pledge.currency)
        click.echo(f"{pledge.tenant} {pledge.period}: {amount} presumed for {pledge.thing} at {pledge.provider}")
