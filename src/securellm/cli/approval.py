"""`securellm approval`: what waits for another person, and their yes or no."""

import json
import sys
from typing import Any

import click

from securellm.bootstrap.operating import Answer, Operator, segment
from securellm.cli.exits import leave
from securellm.cli.operator import asking, operator, operator_options, printed
from securellm.cli.plain import plain
from securellm.cli.resource import Resource, glass, glass_option, group_of
from securellm.cli.tables import cell

_PROPOSALS = "/admin/v1/proposals"

command = group_of(
    Resource(
        noun="proposal",
        path=_PROPOSALS,
        columns=("id", "state", "action", "tenant", "requester", "missing", "expires_at"),
        filters=("tenant",),
        flags={"pending": "Only those that nobody has decided yet."},
        makes=False,
        changes=False,
        removes=False,
    ),
    help="Decide what takes two people.",
)


@command.command("approve")
@operator_options
@click.argument("proposal_id", metavar="ID")
@click.option("--digest", help="That of what you have read; without it the proposal is shown, and you are asked.")
@click.option("--note", default="", help="Why, for the record.")
@glass_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def approve(
    proposal_id: str, digest: str | None, note: str, break_glass: str | None, as_json: bool, **places: Any
) -> None:
    """Say yes to a proposal of another person. It is carried out in that very step."""
    asked = operator(places)
    if digest is None:
        digest = _agreed(asked, proposal_id)
    body = {"digest": digest, "note": note}
    _decide(asked, proposal_id, "approve", body, as_json=as_json, reason=break_glass)


@command.command("reject")
@operator_options
@click.argument("proposal_id", metavar="ID")
@click.option("--note", default="", help="Why, for the record.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reject(proposal_id: str, note: str, as_json: bool, **places: Any) -> None:
    """Say no to a proposal."""
    _decide(operator(places), proposal_id, "reject", {"note": note}, as_json=as_json)


@command.command("withdraw")
@operator_options
@click.argument("proposal_id", metavar="ID")
@click.option("--note", default="", help="Why, for the record.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def withdraw(proposal_id: str, note: str, as_json: bool, **places: Any) -> None:
    """Take back one's own proposal."""
    _decide(operator(places), proposal_id, "withdraw", {"note": note}, as_json=as_json)


def _agreed(asked: Operator, proposal_id: str) -> str:
    """The digest of what a person at this terminal has just been shown and said yes to."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"name --digest, of what you have read with `approval get {proposal_id}`")
    proposal = asking(lambda: asked.call("GET", f"{_PROPOSALS}/{segment(proposal_id)}")).body
    for name in ("action", "tenant", "arguments", "requester", "reason", "expires_at"):
        value = proposal.get(name)
        shown = plain(json.dumps(value, ensure_ascii=False, indent=2)) if isinstance(value, dict) else cell(value)
        click.echo(f"{name.replace('_', ' ')}: {shown}", err=True)
    if not click.confirm("Approve exactly this?", err=True):
        leave("you did not agree", "Say no to it with `securellm approval reject`, or leave it to others.")
    return str(proposal["digest"])


def _decide(
    asked: Operator, proposal_id: str, verb: str, body: dict[str, str], *, as_json: bool, reason: str | None = None
) -> None:
    def call() -> Answer:
        return asked.call("POST", f"{_PROPOSALS}/{segment(proposal_id)}/{verb}", body=body, headers=glass(reason))

    answer = asking(call).body
    if as_json:
        printed(answer)
        return
    made = f", made {answer['result']}" if answer.get("result") else ""
    missing = f", {answer['missing']} more to agree" if answer.get("state") == "pending" else ""
    click.echo(f"{proposal_id} {answer.get('state')}{made}{missing}")
