"""The commands that every resource of the admin API has alike: list, get, create, update, delete and its own verbs."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import click
import msgspec

from securellm.bootstrap.operating import Answer, Operator, segment
from securellm.cli.exits import Exit
from securellm.cli.operator import asking, operator, operator_options, printed, warned
from securellm.cli.tables import table

F = TypeVar("F", bound=Callable[..., object])

_LARGEST = 1024 * 1024


class Verb(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is done to one thing: a POST below it."""

    name: str
    help: str
    path: str = ""
    """Below the thing; empty is the verb's own name."""
    body: bool = False
    """It takes members."""
    four_eyes: bool = False


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of the admin API, as commands know it."""

    noun: str
    path: str
    """Of the collection; `{tenant}` is filled in from `--tenant`."""
    key: str = "id"
    """The member that names one thing."""
    named: str = ""
    """How a command's help calls what names one thing, where it is not the member."""
    columns: tuple[str, ...]
    """What a list shows of each."""
    lists: bool = True
    makes: bool = True
    changes: bool = True
    removes: bool = True
    listing: str = ""
    """What a list is of, where it is not of every one."""
    filters: tuple[str, ...] = ()
    """Members that a list can be narrowed by."""
    flags: Mapping[str, str] = {}
    """Switches that narrow a list, and what each says."""
    members: str = ""
    """What making one takes, in the order of the API's reference; a star marks what must be there."""
    changing: str = ""
    """What a change may name."""
    shown_once: str | None = None
    """The member of an answer that is a secret, shown this once."""
    four_eyes: bool = False
    """Making and changing may take two people."""
    verbs: tuple[Verb, ...] = ()

    scoped: bool = False
    """One thing is found by its id and `--tenant`: without one it is the installation's."""

    @property
    def article(self) -> str:
        return "an" if self.noun[0] in "aeio" else "a"

    @property
    def within(self) -> bool:
        return "{tenant}" in self.path

    def collection(self, options: dict[str, Any]) -> str:
        tenant = options.pop("tenant", None) if self.within else None
        return self.path if tenant is None else self.path.replace("{tenant}", segment(tenant))

    def one(self, name: str, options: dict[str, Any], *, below: str = "") -> str:
        path = f"{self.collection(options)}/{segment(name)}{below}"
        tenant = options.pop("tenant", None) if self.scoped else None
        return path if tenant is None else f"{path}?{urlencode({'tenant': tenant})}"


def group_of(resource: Resource, *, help: str) -> click.Group:  # noqa: A002 - as click calls it
    """The group of commands for `resource`."""
    group = click.Group(help=help)
    add_commands(group, resource)
    return group


def add_commands(group: click.Group, resource: Resource) -> None:
    """Put the resource's commands into `group`, beside those that it has."""
    if resource.lists:
        _add_list(group, resource)
    _add_get(group, resource)
    if resource.makes:
        _add_create(group, resource)
    if resource.changes:
        _add_update(group, resource)
    if resource.removes:
        _add_delete(group, resource)
    for verb in resource.verbs:
        _add_verb(group, resource, verb)


def _add_list(group: click.Group, resource: Resource) -> None:
    def run(as_json: bool, **options: Any) -> None:
        asked = operator(options)
        path = resource.collection(options)
        query = {name: value for name, value in options.items() if value is not None}
        found = asking(lambda: list(asked.items(path, query)))
        if as_json:
            printed({"data": found})
            return
        listed(resource.columns, found)

    said = resource.listing or f"List every {resource.noun} you may see."
    command = _command(group, "list", run, said, resource)
    for name in resource.filters:
        command.params.append(click.Option([f"--{name.replace('_', '-')}", name], help=f"Only those of this {name}."))
    for name, said in resource.flags.items():
        command.params.append(click.Option([f"--{name}"], is_flag=True, flag_value="true", default=None, help=said))


def _add_get(group: click.Group, resource: Resource) -> None:
    def run(name: str, as_json: bool, **options: Any) -> None:
        asked = operator(options)
        answer = asking(lambda: asked.call("GET", resource.one(name, options)))
        _show(answer, as_json=as_json)

    _named(_command(group, "get", run, f"Show one {resource.noun}.", resource), resource)


def _add_create(group: click.Group, resource: Resource) -> None:
    def run(as_json: bool, file: Path | None, members: tuple[str, ...], **options: Any) -> None:
        reason = options.pop("break_glass", None)
        asked = operator(options)
        body = body_of(file, members)
        path = resource.collection(options)
        answer = asking(lambda: asked.call("POST", path, body=body, headers=glass(reason)))
        told(resource, answer, as_json=as_json)

    said = f"Make {resource.article} {resource.noun}.\n\nMembers (* must be there): {resource.members}."
    command = _command(group, "create", run, said, resource)
    _with_body(command)
    if resource.four_eyes:
        _with_glass(command)


def _add_update(group: click.Group, resource: Resource) -> None:
    def run(
        name: str, as_json: bool, file: Path | None, members: tuple[str, ...], if_match: str | None, **options: Any
    ) -> None:
        reason = options.pop("break_glass", None)
        asked = operator(options)
        body = body_of(file, members)
        path = resource.one(name, options)

        def change() -> Answer:
            headers = {"if-match": if_match or etag_of(asked, path)} | dict(glass(reason))
            return asked.call("PATCH", path, body=body, headers=headers)

        answer = asking(change)
        if answer.status == 202:
            _waits(answer, as_json=as_json)
        else:
            warned(answer.body)
            _show(answer, as_json=as_json)

    said = f"Change {resource.article} {resource.noun}; null takes a member back.\n\nMembers: {resource.changing}."
    command = _command(group, "update", run, said, resource)
    _named(command, resource)
    _with_body(command)
    _with_etag(command)
    if resource.four_eyes:
        _with_glass(command)


def _add_delete(group: click.Group, resource: Resource) -> None:
    def run(name: str, as_json: bool, if_match: str | None, **options: Any) -> None:
        asked = operator(options)
        path = resource.one(name, options)
        asking(lambda: asked.call("DELETE", path, headers={"if-match": if_match or etag_of(asked, path)}))
        if as_json:
            printed({"id": name, "deleted": True})
        else:
            click.echo(f"{name} deleted")

    command = _command(group, "delete", run, f"Remove {resource.article} {resource.noun}.", resource)
    _named(command, resource)
    _with_etag(command)


def _add_verb(group: click.Group, resource: Resource, verb: Verb) -> None:
    def run(name: str, as_json: bool, **options: Any) -> None:
        reason = options.pop("break_glass", None)
        file, members = options.pop("file", None), options.pop("members", ())
        asked = operator(options)
        body = body_of(file, members) if verb.body else {}
        path = resource.one(name, options, below=f"/{verb.path or verb.name}")
        answer = asking(lambda: asked.call("POST", path, body=body, headers=glass(reason)))
        told(resource, answer, as_json=as_json)

    command = _command(group, verb.name, run, verb.help, resource)
    _named(command, resource)
    if verb.body:
        _with_body(command)
    if verb.four_eyes:
        _with_glass(command)


def _command(group: click.Group, name: str, run: Callable[..., None], said: str, resource: Resource) -> click.Command:
    command = click.command(name, help=said)(operator_options(run))
    if resource.within:
        command.params.append(click.Option(["--tenant"], required=True, help="Whose."))
    elif resource.scoped:
        command.params.append(click.Option(["--tenant"], help="Whose (default: the installation's)."))
    command.params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object."))
    group.add_command(command)
    return command


def _named(command: click.Command, resource: Resource) -> None:
    command.params.append(click.Argument(["name"], metavar=resource.named or resource.key.upper()))


def _with_body(command: click.Command) -> None:
    command.params += [
        click.Option(
            ["--file"],
            type=click.Path(path_type=Path, allow_dash=True),
            help="JSON object to send; - is standard input.",
        ),
        click.Option(
            ["--set", "members"],
            multiple=True,
            metavar="NAME=VALUE",
            help="One member; NAME may be a path such as budget.month, VALUE is JSON or else text.",
        ),
    ]


def _with_etag(command: click.Command) -> None:
    command.params.append(
        click.Option(["--if-match"], help="The ETag of what you have read (default: that of what is there now).")
    )


def _with_glass(command: click.Command) -> None:
    glass_option(command)


def glass_option(command: F) -> F:
    """Add `--break-glass REASON`."""
    return click.option(
        "--break-glass",
        metavar="REASON",
        help="Do alone, on the host, what takes two people; only until there are two. It is recorded and alarmed.",
    )(command)


def glass(reason: str | None) -> Mapping[str, str]:
    """The header that breaks the glass."""
    return {} if reason is None else {"x-break-glass": reason}


def etag_of(asked: Operator, path: str) -> str:
    """The ETag of what is there now."""
    etag = asked.call("GET", path).etag
    return "" if etag is None else etag


def body_of(file: Path | None, members: tuple[str, ...]) -> dict[str, Any]:
    """The JSON object that `--file` and `--set` make together; explains and exits when they make none."""
    body: Any = {}
    if file is not None:
        try:
            with click.open_file(str(file), "r", encoding="utf-8") as stream:
                text = stream.read(_LARGEST + 1)
            body = json.loads(text) if len(text) <= _LARGEST else None
        except (OSError, ValueError):
            body = None
        if not isinstance(body, dict):
            raise click.UsageError(f"{file} does not hold one JSON object of at most 1 MiB")
    for member in members:
        name, is_said, value = member.partition("=")
        if not is_said or not all(name.split(".")):
            raise click.UsageError(f"--set takes NAME=VALUE, not {member!r}")
        _put(body, name.split("."), _value(value))
    return dict(body)


def _put(body: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        below = body.setdefault(name, {})
        if not isinstance(below, dict):
            raise click.UsageError(f"{'.'.join(path)} is below something that is no object")
        body = below
    body[path[-1]] = value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def told(resource: Resource, answer: Answer, *, as_json: bool) -> None:
    """Print what was made or done; leaves with `Exit.WAITING` when it is a proposal now."""
    if answer.status == 202:
        _waits(answer, as_json=as_json)
        return
    if as_json:
        printed(answer.body)
        return
    words = [str(answer.body.get(resource.key, ""))]
    if resource.shown_once is not None and resource.shown_once in answer.body:
        words.append(str(answer.body[resource.shown_once]))
    click.echo("  ".join(word for word in words if word) or "done")


def _waits(answer: Answer, *, as_json: bool) -> None:
    """The change is a proposal now: said, and left with a status of its own."""
    if as_json:
        printed(answer.body)
    else:
        click.echo(f"waits for another person: securellm approval approve {answer.body.get('id', '')}", err=True)
    raise SystemExit(Exit.WAITING)


def _show(answer: Answer, *, as_json: bool) -> None:
    printed(answer.body, indent=None if as_json else 2)


def listed(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, none: str = "none") -> None:
    """Print a list to a person; that there is nothing is said beside the answer."""
    if not rows:
        click.echo(none, err=True)
        return
    for line in table(columns, rows):
        click.echo(line)
