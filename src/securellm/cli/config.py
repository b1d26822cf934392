"""`securellm config`: check a configuration file, say where each value comes from, and what another would change."""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from securellm.bootstrap.bundles import declared_policies
from securellm.bootstrap.config import config_digest, open_config
from securellm.cli.exits import Exit
from securellm.cli.places import in_force_or_exit
from securellm.settings import ConfigError, Problem
from securellm.settings.loader import located


@click.group()
def command() -> None:
    """Check a configuration file, explain it, compare it with another."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(file: Path, *, as_json: bool) -> None:
    """Read FILE as `serve` would and print every problem, each with its line, key and remedy.

    Secrets are resolved, and never printed. Exits 0 when a gateway could start from FILE, 2 otherwise.
    """
    try:
        loaded = open_config(file)
        declared_policies(loaded)
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


@command.command("explain")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("key", default="")
@click.option("--set", "only_set", is_flag=True, help="Leave out what nobody has set.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(file: Path, key: str, *, only_set: bool, as_json: bool) -> None:
    """Print every value in force with FILE and where it comes from: the file, the admin API's store or a default.

    KEY narrows it to one setting and those below it, such as `server` or `tenants[acme].budget`. Secrets are shown as
    their references.
    """
    from securellm.bootstrap.explaining import settings_of

    every = settings_of(in_force_or_exit(file))
    found = [
        setting for setting in every if _is_below(setting.key, key) and not (only_set and setting.source == "default")
    ]
    if not found:
        click.echo(f"{file} has no setting {key}" if key else f"{file} sets nothing", err=True)
        if near := difflib.get_close_matches(key, [setting.key for setting in every]):
            click.echo(f"  Did you mean {' or '.join(near)}?", err=True)
        raise SystemExit(Exit.NOT_FOUND)
    if as_json:
        click.echo(json.dumps({"settings": msgspec.to_builtins(found)}, ensure_ascii=False))
        return
    for setting in found:
        place = setting.source if setting.line is None else f"line {setting.line}"
        click.echo(f"{setting.key} = {_written(setting.value)}  ({place})")


@command.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def difference(before: Path, after: Path, *, as_json: bool) -> None:
    """Print what is in force otherwise when AFTER takes the place of BEFORE, defaults and stored things included.

    Exits 0 when nothing is, 9 otherwise.
    """
    from securellm.bootstrap.explaining import diff, settings_of

    found = diff(settings_of(in_force_or_exit(before)), settings_of(in_force_or_exit(after)))
    if as_json:
        click.echo(json.dumps({"differences": msgspec.to_builtins(found)}, ensure_ascii=False))
    else:
        for one in found:
            when = "  (at the next start)" if one.at_start else ""
            click.echo(f"{one.key}: {_written(one.before)} -> {_written(one.after)}{when}")
    raise SystemExit(Exit.DIFFERENT if found else Exit.OK)


def _is_below(key: str, wanted: str) -> bool:
    return not wanted or key == wanted or key.startswith((f"{wanted}.", f"{wanted}["))


def _written(value: object) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)
