"""`securellm policy`: try a bundle of policies, see what it changes and why it decides, before it is in force."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from click.core import ParameterSource

from securellm.cli.exits import Exit
from securellm.cli.operator import asking, operator, operator_options
from securellm.cli.resource import Resource, Verb, add_commands, told
from securellm.core.clock import SystemClock
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
from securellm.settings.fields import KINDS, FieldError, Instant, Seconds

_BUNDLE = click.Path(path_type=Path)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group("policy")
def command() -> None:
    """Try, compare and explain bundles of policies: folders of *.cedar, or files of JSON.

    `test`, `diff`, `explain`, `hash` and `schema` need no gateway; `diff --recorded` and the others speak to one.
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
@operator_options
@click.option("--recorded", is_flag=True, help="Ask what was really asked, by a gateway's audit log; takes NEW alone.")
@click.option("--tenant", help="With --recorded: whose policy and requests (default: the installation's).")
@click.option(
    "--last",
    type=click.IntRange(1, 50_000),
    default=10_000,
    show_default=True,
    help="With --recorded: how many decisions, the newest.",
)
@click.option("--since", help="With --recorded: none older, such as 24h, 7d or 2026-11-01T00:00:00Z.")
@click.argument("bundles", type=_BUNDLE, nargs=-1, required=True, metavar="[OLD] NEW")
@_json
def diff(
    bundles: tuple[Path, ...],
    *,
    recorded: bool,
    tenant: str | None,
    last: int,
    since: str | None,
    as_json: bool,
    **places: Any,
) -> None:
    """Ask OLD and NEW every question that they can tell apart, and print where they answer otherwise.

    Write - for OLD where no bundle is in force. With --recorded, a gateway compares NEW (a bundle, or the id of a
    version it keeps) with what it has in force, on the requests that its audit log holds. Exits 0 when nothing changes,
    9 when something does, 2 when one of them is no bundle, and with --recorded 4 when there is nothing to compare.
    """
    if recorded:
        if len(bundles) != 1:
            raise click.UsageError("--recorded takes NEW alone: it is compared with what the gateway has in force")
        _diff_recorded(bundles[0], tenant, last, since, places, as_json=as_json)
    context = click.get_current_context()
    for name in ("tenant", "last", "since", *places):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --recorded: no gateway is asked without it")
    if len(bundles) != 2:
        raise click.UsageError("name OLD and NEW (- for OLD where no bundle is in force), or NEW with --recorded")
    old, new = bundles
    before = None if str(old) == "-" else _tried(old, as_json=as_json)
    after = _tried(new, as_json=as_json)
    both = [after[0]] if before is None else [before[0], after[0]]
    found = compare(None if before is None else compiled_of(*before), compiled_of(*after), questions_of(both))
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


def _diff_recorded(
    new: Path, tenant: str | None, last: int, since: str | None, places: dict[str, Any], *, as_json: bool
) -> NoReturn:
    body: dict[str, Any] = {"last": last} | ({} if tenant is None else {"tenant": tenant})
    if since is not None:
        body["since"] = _moment(since)
    if _VERSION.fullmatch(str(new)) and not new.exists():
        body["version"] = str(new)
    else:
        body["bundle"] = json.loads(bundle_json(_opened(new, as_json=as_json)))
    asked = operator(places)
    found = asking(lambda: asked.call("POST", "/admin/v1/policy/diff", body=body)).body
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        _print_replay(found)
    changed = sum(found[result] for result in _RESULTS) + found["drifted"]["count"]
    if not changed and not found["same"]:
        raise SystemExit(Exit.NOT_FOUND)
    raise SystemExit(Exit.DIFFERENT if changed else Exit.OK)


_VERSION = re.compile("[0-9a-f]{64}")
_RESULTS = {
    "denied": "would be refused that are allowed by what is in force",
    "allowed": "would be allowed that are refused by what is in force",
    "otherwise_bound": "would be bound to other terms",
    "otherwise_refused": "would be refused in another way",
}
_UNKNOWN = {
    "not_written_down": "their records do not say what policy was asked",
    "not_screened": "a bundle asks what screening finds, and nothing had been screened",
    "hour": "they were decided about the turn of an hour that makes a difference",
    "damaged": "records are missing, not what was written, or another release's: `securellm audit verify` says",
}


def _moment(since: str) -> str:
    """A moment as the API reads it, from a moment or from how long ago it was."""
    try:
        micros = int(KINDS[Instant].parse(since))
    except FieldError:
        try:
            seconds = KINDS[Seconds].parse(since)
        except FieldError:
            raise click.UsageError("--since is how long ago, such as 24h or 7d, or a moment with its offset") from None
        micros = SystemClock().now_us() - int(seconds * 1_000_000)
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=max(0, micros))).isoformat()
    except OverflowError:
        raise click.UsageError("--since names a moment that no calendar holds") from None


def _print_replay(found: dict[str, Any]) -> None:
    """What a gateway says of recorded requests."""
    if not found["decisions"]:
        click.echo("no request was recorded there: nothing can be compared")
    else:
        extent = "" if found["complete"] else "; not all that was meant: the bounds of a comparison were met"
        span = f"{found['oldest'][:19]} to {found['newest'][:19]} UTC"
        click.echo(f"{_count(found['decisions'], 'request', 'requests')}, {span}{extent}")
        click.echo(f"{found['same']:6}  would be decided as they are")
    for result, said in _RESULTS.items():
        if found[result]:
            click.echo(f"{found[result]:6}  {said}")
    if found["elsewhere"]:
        codes = ", ".join(f"{code} {count}" for code, count in found["elsewhere"].items())
        click.echo(
            f"{sum(found['elsewhere'].values()):6}  were refused by other gates, as they would be again: {codes}"
        )
    for reason, doubt in found["not_replayable"].items():
        click.echo(f"{doubt['count']:6}  cannot be told: {_UNKNOWN.get(reason, reason)}{_some(doubt['requests'])}")
    if found["drifted"]["count"]:
        drifted = found["drifted"]
        click.echo(
            f"{drifted['count']:6}  are decided otherwise now than by the record, under the same bundles: find out why",
            nl=False,
        )
        click.echo(_some(drifted["requests"]))
    if found["unknown_callers"]:
        click.echo(f"{found['unknown_callers']} more were refused before anybody knew whose they are")
    if found["other_policies"]:
        click.echo(
            f"{found['other_policies']} of them were decided under other bundles; those in force are asked instead"
        )
    for turn in found["changes"]:
        before, after = (msgspec.convert(turn[side], Standing) for side in ("before", "after"))
        click.echo(f"{turn['count']:6}  {_standing(before)}  ->  {_standing(after)}")
        click.echo(f"        {', '.join(turn['requests'])}")
        click.echo(f"        {json.dumps(turn['question'], ensure_ascii=False)}")
    if found["more_changes"]:
        click.echo(f"and {found['more_changes']} more kinds of change")


def _some(requests: list[str]) -> str:
    return f" ({', '.join(requests)})" if requests else ""


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
            told = problem.startswith(f"{Path(path).name}: ")
            click.echo(problem if told else f"{path}: {problem}", err=True)
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
    why = f" by {', '.join(standing.rules)}" if standing.rules else _UNRULED.get(standing.decision, "")
    return f"{standing.decision}{why}" + (f", bound to {'; '.join(bound)}" if bound else "")


_UNRULED = {
    "allow": " (no bundle is in force)",
    "deny": " (no policy permits it)",
    "error": " (a policy fails)",
}
"""What is said where no policy has decided."""


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
