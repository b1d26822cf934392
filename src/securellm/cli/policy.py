"""`securellm policy`: try a bundle of policies, see what it changes and why it decides, before it is in force."""

import json
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from securellm.cli.exits import Exit
from securellm.cli.operator import asking, operator, operator_options
from securellm.cli.resource import Resource, Verb, add_commands, told
from securellm.core.document import Document
from securellm.core.errors import Refusal
from securellm.policy import (
    SCHEMA,
    Bundle,
    BundleRefused,
    Comparison,
    Explanation,
    Question,
    Report,
    Standing,
    bundle_json,
    compare,
    compiled_of,
    explain,
    hash_of,
    open_bundle,
    prove,
    questions_of,
)

_BUNDLE = click.Path(path_type=Path)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group("policy")
def command() -> None:
    """Try, compare and explain bundles of policies: folders of *.cedar, or files of JSON.

    `test`, `diff` and `explain` need no gateway; the other commands speak to one.
    """


_VERSIONS = Resource(
    noun="policy version",
    path="/admin/v1/policies",
    columns=("id", "tenant", "state", "proposed_by", "managed_by"),
    scoped=True,
    makes=False,
    changes=False,
    removes=False,
    verbs=(
        Verb(name="shadow", help="Evaluate a version beside the one in force; it decides nothing yet."),
        Verb(name="enforce", help="Put a version in force. It takes two people.", four_eyes=True),
        Verb(name="withdraw", help="Take a version out of force. It takes two people.", four_eyes=True),
    ),
)

add_commands(command, _VERSIONS)


@command.command("propose")
@operator_options
@click.argument("bundle", type=_BUNDLE)
@click.option("--tenant", help="Whose (default: the installation's).")
@click.option("--reason", required=True, help="Why it is wanted; recorded.")
@_json
def propose(bundle: Path, tenant: str | None, reason: str, *, as_json: bool, **places: Any) -> None:
    """Keep BUNDLE as a draft of the gateway's, after the same checks as `test`."""
    opened, _ = _tried(bundle, as_json=as_json)
    asked = operator(places)
    body = {"bundle": json.loads(bundle_json(opened)), "reason": reason} | (
        {} if tenant is None else {"tenant": tenant}
    )
    told(_VERSIONS, asking(lambda: asked.call("POST", _VERSIONS.path, body=body)), as_json=as_json)


@command.command("test")
@click.argument("bundle", type=_BUNDLE)
@_json
def test(bundle: Path, *, as_json: bool) -> None:
    """Check BUNDLE as the gateway would and run the tests that it brings along.

    Exits 0 when it could be put in force, 2 otherwise. A policy whose loss no test would notice is named.
    """
    opened, report = _tried(bundle, as_json=as_json)
    passed = sum(case.passed for case in report.tests)
    if as_json:
        click.echo(_told(report, ok=True))
        return
    click.echo(f"{bundle}: ok, {_count(len(report.policies), 'policy', 'policies')}, {passed} tests passed")
    click.echo(f"hash {report.hash}")
    if report.mentions_guard:
        click.echo("asks what screening finds: it is asked again after the guard")
    for name in report.untested:
        click.echo(f"warning: no test notices when {name} is lost")
    if not opened.tests:
        click.echo("warning: the bundle brings no tests along")


@command.command("diff")
@click.argument("old", type=_BUNDLE)
@click.argument("new", type=_BUNDLE)
@_json
def diff(old: Path, new: Path, *, as_json: bool) -> None:
    """Ask OLD and NEW every question that they can tell apart, and print where they answer otherwise.

    Write - for OLD where no bundle is in force. Exits 0 when nothing changes, 9 when something does, 2 when one of them
    is no bundle.
    """
    before = None if str(old) == "-" else _tried(old, as_json=as_json)
    after = _tried(new, as_json=as_json)
    bundles = [after[0]] if before is None else [before[0], after[0]]
    found = compare(None if before is None else compiled_of(*before), compiled_of(*after), questions_of(bundles))
    if as_json:
        members = msgspec.to_builtins(found, order="sorted")
        click.echo(json.dumps({**members, "looser": found.looser, "exhaustive": found.exhaustive}))
    else:
        _print_changes(found)
    raise SystemExit(Exit.DIFFERENT if found.changes else Exit.OK)


@command.command("explain")
@click.argument("bundle", type=_BUNDLE)
@click.argument("question")
@_json
def explain_(bundle: Path, question: str, *, as_json: bool) -> None:
    """Ask BUNDLE one QUESTION, and print what each policy says to it.

    QUESTION is a JSON object as under "ask" in a bundle's tests, or the name of a file that holds one. Exits 0 when it
    is allowed, 10 when it is denied, 2 when the bundle or the question is wrong.
    """
    asked = _question(question, as_json=as_json)
    told = explain(*_tried(bundle, as_json=as_json), asked)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(told, order="sorted")))
    else:
        _print_explanation(told)
    raise SystemExit(Exit.OK if told.standing.decision == "allow" else Exit.DENIED)


@command.command("hash")
@click.argument("bundle", type=_BUNDLE)
@_json
def hash_(bundle: Path, *, as_json: bool) -> None:
    """Print the hash by which records and the API name BUNDLE. It is not tried. Exits 0, or 2 for no bundle."""
    digest = hash_of(_opened(bundle, as_json=as_json))
    click.echo(json.dumps({"bundle": str(bundle), "hash": digest}) if as_json else digest)


@command.command("schema")
def schema() -> None:
    """Print the schema that policies are checked against: every type, action and attribute."""
    click.echo(SCHEMA, nl=False)


def _opened(path: Path, *, as_json: bool) -> Bundle:
    try:
        return open_bundle(path)
    except BundleRefused as refused:
        _refuse(path, refused.problems, as_json=as_json)


def _tried(path: Path, *, as_json: bool) -> tuple[Bundle, Report]:
    """The bundle and its report; exits when it has problems."""
    bundle = _opened(path, as_json=as_json)
    (report,) = prove((bundle,))
    if not report.ok and as_json:
        click.echo(_told(report, ok=False))
        raise SystemExit(Exit.PROBLEMS)
    if not report.ok:
        _refuse(path, report.problems, as_json=False)
    return bundle, report


def _refuse(path: Path | str, problems: tuple[str, ...], *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"ok": False, "problems": list(problems)}, ensure_ascii=False))
    else:
        for problem in problems:
            click.echo(f"{path}: {problem}", err=True)
    raise SystemExit(Exit.PROBLEMS)


def _question(text: str, *, as_json: bool) -> Question:
    try:
        data = text.encode("utf-8") if text.lstrip().startswith("{") else Path(text).read_bytes()
        return msgspec.convert(Document(data, max_depth=8).members(), Question)
    except OSError as error:
        _refuse(text, ((error.strerror or "cannot be read").lower(),), as_json=as_json)
    except Refusal as refusal:
        _refuse("question", (refusal.reason,), as_json=as_json)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        _refuse("question", (str(error),), as_json=as_json)


def _told(report: Report, *, ok: bool) -> str:
    members: dict[str, Any] = msgspec.to_builtins(report, order="sorted")
    return json.dumps({"ok": ok, **members, "mentions_guard": report.mentions_guard}, ensure_ascii=False)


def _print_changes(found: Comparison) -> None:
    extent = "every one" if found.exhaustive else f"an even sample of {found.size}"
    click.echo(f"asked {found.asked} questions ({extent}): {sum(change.count for change in found.changes)} differ")
    if found.looser:
        click.echo(f"{found.looser} are allowed that were not")
    for change in found.changes:
        click.echo(f"{change.count:6}  {_standing(change.before)}  ->  {_standing(change.after)}")
        for question in change.examples:
            click.echo(f"        {msgspec.json.encode(question, order='sorted').decode('utf-8')}")


def _print_explanation(told: Explanation) -> None:
    click.echo(_standing(told.standing))
    for voice in told.voices:
        says = {True: "applies", False: "does not apply", None: "fails"}[voice.applies]
        click.echo(f"  {voice.effect} {voice.id}: {says}" + (f"  ({voice.note})" if voice.note else ""))


def _standing(standing: Standing) -> str:
    bound = []
    if standing.redact:
        bound.append(f"redact {', '.join(standing.redact)}")
    if standing.route is not None:
        bound.append(f"route {', '.join(standing.route) or 'nowhere'}")
    if standing.approvals:
        bound.append(f"{_count(standing.approvals, 'approval', 'approvals')}")
    rules = ", ".join(standing.rules) or "no policy"
    return f"{standing.decision} by {rules}" + (f", bound to {'; '.join(bound)}" if bound else "")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
