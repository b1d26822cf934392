"""`securellm audit`: check, read and take out the audit log of a data folder, in use or not."""

import json
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import click

from securellm.bootstrap.operating import segment
from securellm.cli.exits import Exit, leave
from securellm.cli.operator import asking, operator, operator_options, printed
from securellm.cli.places import data_dir_or_exit, place_options
from securellm.core.randomness import SystemRandomness
from securellm.secrets import KeyFolder, KeyRefused
from securellm.storage import DataDir, StorageError


@click.group("audit")
def command() -> None:
    """Verify, read and export the audit log."""


@command.command("verify")
@place_options
@click.option(
    "--vkey", help="The verifier key to trust (default: that of the signing key beside the data, else the log's own)."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify_command(config: Path | None, data_dir: Path | None, vkey: str | None, as_json: bool) -> None:
    """Exit 0 when every stored byte is what was written, 8 when one is not."""
    from securellm.audit import verify
    from securellm.bootstrap.journaling import JOURNAL_SCHEMA, journal_observers

    data = DataDir(data_dir_or_exit(config, data_dir))
    path = data.audit
    report = verify(
        path,
        schema=JOURNAL_SCHEMA,
        observers=journal_observers(),
        vkey=vkey,
        public_key=None if vkey is not None else _signing_key(data),
    )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "intact": report.intact,
                    "records": report.records,
                    "checkpoints": report.checkpoints,
                    "problems": list(report.problems),
                }
            )
        )
    elif report.intact:
        click.echo(f"intact: {report.records} records, {report.checkpoints} checkpoints")
    else:
        click.echo(f"TAMPERED: {path}", err=True)
        for problem in report.problems:
            click.echo(f"  {problem}", err=True)
    raise SystemExit(Exit.OK if report.intact else Exit.TAMPERED)


@command.command("tail")
@place_options
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
def tail_command(config: Path | None, data_dir: Path | None, count: int) -> None:
    """Print the newest records as JSON lines, oldest first."""
    from securellm.audit import tail

    path = DataDir(data_dir_or_exit(config, data_dir)).audit
    _print(lambda: tail(path, count))


@command.command("export")
@place_options
def export_command(config: Path | None, data_dir: Path | None) -> None:
    """Print every record as one JSON line: exactly the bytes that were hashed."""
    from securellm.audit import export

    path = DataDir(data_dir_or_exit(config, data_dir)).audit
    _print(lambda: export(path))


@command.command("search")
@operator_options
@click.option("--tenant", help="Only those of this tenant.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only these types, such as ADMIN or DENY.")
@click.option("--principal", help="Only what this person, service or key did.")
@click.option("--request-id", help="Only those of this request.")
@click.option("--since", metavar="MOMENT", help="Not before this moment, such as 2026-11-21T18:00:00Z.")
@click.option("--until", metavar="MOMENT", help="Before this moment.")
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(1, 100_000), help="How many at most.")
def search_command(count: int, types: tuple[str, ...], **options: Any) -> None:
    """Ask a gateway for records, and print them as JSON lines, newest first. Needs a token, no access to its host."""
    asked = operator(options)
    query = [(name, value) for name, value in options.items() if value is not None] + [("type", one) for one in types]
    for record in asking(lambda: list(islice(asked.items("/admin/v1/audit/records", query), count))):
        printed(record)


@command.command("decision")
@operator_options
@click.argument("decision_id", metavar="ID")
def decision_command(decision_id: str, **places: Any) -> None:
    """Say what was decided of one request, by the id of its decision (x-securellm-decision-id), as one JSON object."""
    asked = operator(places)
    printed(asking(lambda: asked.call("GET", f"/admin/v1/decisions/{segment(decision_id)}")).body, indent=2)


def _signing_key(data: DataDir) -> bytes | None:
    """The public half of the key beside the data: without one, a log signed anew with another key looks whole."""
    from securellm.audit import public_key

    try:
        seed = KeyFolder(data.keys, SystemRandomness()).audit_key(create=False)
    except KeyRefused as error:
        if (data.keys / "audit-key").exists():
            click.echo(f"note: the signing key is not used: {error.reason}", err=True)
        return None
    return public_key(bytes.fromhex(seed.reveal()))


@command.command("vkey")
@place_options
def vkey_command(config: Path | None, data_dir: Path | None) -> None:
    """Print the public verifier key of the log: keep it apart from the data, for `verify --vkey`."""
    from securellm.audit import verifier_key

    try:
        click.echo(verifier_key(DataDir(data_dir_or_exit(config, data_dir)).audit))
    except StorageError as error:
        leave(error.reason, error.remedy)


def _print(lines: Callable[[], Iterable[bytes]]) -> None:
    try:
        for line in lines():
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    except StorageError as error:
        leave(error.reason, error.remedy)
    except BrokenPipeError:
        # Whoever read us has read enough.
        sys.stderr.close()
