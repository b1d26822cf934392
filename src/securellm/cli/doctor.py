"""`securellm doctor`: look at one installation, say what is wrong with it and what to back up."""

import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import click
import msgspec

from securellm.bootstrap.config import Loaded, data_dir_of, open_config
from securellm.bootstrap.provenance import foreign, shadows
from securellm.bootstrap.tree import Startup
from securellm.cli.exits import Exit
from securellm.cli.places import place_options
from securellm.core.clock import Clock, SystemClock
from securellm.secrets import process_environment
from securellm.secrets.keys import ADMIN_TOKEN, AUDIT_KEY, PEPPER, KeyRefused, check_private
from securellm.settings import ConfigError
from securellm.settings.loader import located
from securellm.storage.datadir import DataDir

_RESERVE, _LOW = 0.05, 0.10
_FEW_FILES, _ENOUGH_FILES = 256, 4096
_BUILT_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z: no honest clock that runs this program shows an earlier time."""
_SKEW_US = 300_000_000


class Status(StrEnum):
    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(msgspec.Struct, frozen=True):
    """What one look showed. `remedy` is empty when there is nothing to do."""

    status: Status
    check: str
    text: str
    remedy: str = ""


@click.command()
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(*, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Look at an installation: configuration, data folder, keys, disk, limits, clock, code that runs before it.

    Changes nothing, and may run beside a gateway. Exits 0 when nothing must be corrected, 1 otherwise.
    """
    if config is None and data_dir is None:
        raise click.UsageError("name --config FILE or --data-dir DIR")
    findings, loaded = ([], None) if config is None else _configuration(config)
    data = _data(config, data_dir, loaded)
    if data is not None:
        findings += examine(data, clock=SystemClock(), referenced=_referenced(loaded))
    findings += [*machine(SystemClock()), *_startup_code(loaded), *_shadows()]
    backup = None if data is None else _backup(data)
    failed = any(finding.status is Status.FAILURE for finding in findings)
    if as_json:
        rows = [msgspec.structs.asdict(finding) for finding in findings]
        click.echo(json.dumps({"ok": not failed, "findings": rows, "backup": backup}, ensure_ascii=False))
    else:
        for finding in findings:
            remedy = f" \N{EM DASH} {finding.remedy}" if finding.remedy else ""
            click.echo(f"{finding.status.value:8} {finding.check}: {finding.text}{remedy}")
        if backup is not None:
            click.echo(f"\nBack up together, with the gateway stopped: {', '.join(backup['together'])}")
            click.echo(f"Back up apart from them, where only you can read: {', '.join(backup['apart'])}")
            click.echo("Whoever has both can forge records; whoever loses the keys cannot use the data again.")
    raise SystemExit(Exit.UNHEALTHY if failed else Exit.OK)


def _configuration(config: Path) -> tuple[list[Finding], Loaded | None]:
    try:
        loaded = open_config(config)
    except ConfigError as error:
        return [Finding(Status.FAILURE, "configuration", line) for line in error.lines()], None
    findings = [
        Finding(Status.WARNING, "configuration", located(str(loaded.path), warning)) for warning in loaded.warnings
    ]
    findings.append(Finding(Status.OK, "configuration", f"{loaded.path} is complete"))
    return [*findings, *_exposed(loaded)], loaded


def _exposed(loaded: Loaded) -> Iterator[Finding]:
    """Files of the configuration that every user of the machine can read or write."""
    if _mode(loaded.path) & 0o022:
        text = f"others can write {loaded.path}, and so decide where prompts go"
        yield Finding(Status.WARNING, "configuration", text, f"run: chmod go-w {loaded.path}")
    config, base = loaded.config, loaded.path.parent
    security = config.security
    refs = [security.pepper, security.admin_token, security.audit_key]
    refs += [provider.credential for provider in config.providers]
    refs += [key.secret for key in config.keys]
    if config.secrets.vault is not None:
        refs += [config.secrets.vault.token, config.secrets.vault.role_id, config.secrets.vault.secret_id]
    if config.secrets.gcp is not None:
        refs.append(config.secrets.gcp.service_account)
    names = [ref.value for ref in refs if ref is not None and ref.scheme == "file"]
    names += [provider.client_key for provider in config.providers if provider.client_key is not None]
    names += [] if config.server.tls is None else [config.server.tls.key]
    for file in dict.fromkeys(base / name for name in names):
        if _mode(file) & 0o007:
            yield Finding(
                Status.WARNING, "secrets", f"every user of this machine can read {file}", f"run: chmod o-rwx {file}"
            )


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _data(config: Path | None, data_dir: Path | None, loaded: Loaded | None) -> DataDir | None:
    """The folder to look at; of a configuration with problems too, as long as it names one."""
    if data_dir is not None:
        return DataDir(data_dir.absolute())
    if loaded is not None:
        return DataDir(loaded.data_dir)
    assert config is not None
    try:
        return DataDir(data_dir_of(config))
    except ConfigError:
        return None


def _referenced(loaded: Loaded | None) -> frozenset[str]:
    """The key files that the configuration replaces by references."""
    if loaded is None:
        return frozenset()
    security = loaded.config.security
    refs = {PEPPER: security.pepper, ADMIN_TOKEN: security.admin_token, AUDIT_KEY: security.audit_key}
    return frozenset(name for name, ref in refs.items() if ref is not None)


def examine(data: DataDir, *, clock: Clock, referenced: frozenset[str] = frozenset()) -> list[Finding]:
    """Look at one data folder and the disk it is on. `referenced` names keys that are not files here."""
    return [
        *_folder(data),
        _disk(data),
        *_lock(data),
        *(finding for name in (PEPPER, AUDIT_KEY, ADMIN_TOKEN) for finding in _key(data, name, referenced)),
        *_written_in_the_future(data, clock),
    ]


def machine(clock: Clock) -> list[Finding]:
    """Look at what the process is given by its machine."""
    return [look_at_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[0]), _clock(clock)]


def _startup_code(loaded: Loaded | None) -> Iterator[Finding]:
    """What the interpreter runs at every start, before any of our code could look."""
    check, settings = "startup code", Startup() if loaded is None else loaded.config.server.startup_code
    found = foreign(settings.admitted)
    status = Status.FAILURE if settings.foreign == "refuse" else Status.WARNING
    for code in found:
        text = f"{code.path} runs before the gateway, and nobody knows it: {code.first or 'its content cannot be told'}"
        remedy = "find out who put it there, and remove it"
        if code.digest:
            remedy += f'; or under [server.startup_code] write admitted = {{ "{code.name}" = "{code.digest}" }}'
        yield Finding(status, check, text, remedy)
    if not found:
        yield Finding(Status.OK, check, "nothing that nobody knows runs before the gateway")


def _shadows() -> Iterator[Finding]:
    path = "" if sys.flags.ignore_environment else process_environment().get("PYTHONPATH", "")
    for name, folder in shadows(path):
        text = f"the module {name} in {folder} of PYTHONPATH stands before the one that is meant"
        yield Finding(Status.WARNING, "PYTHONPATH", text, "rename it, or take the folder out of PYTHONPATH")


def _folder(data: DataDir) -> Iterator[Finding]:
    check, root = "data folder", data.root
    try:
        check_private(root, folder=True)
    except FileNotFoundError:
        yield Finding(Status.NOTE, check, f"{root} does not exist yet; the first start makes it")
        return
    except KeyRefused as refused:
        yield Finding(Status.FAILURE, check, str(refused), refused.remedy)
        return
    except OSError as error:
        yield Finding(Status.FAILURE, check, f"{root} cannot be looked at: {error.strerror}", "correct its permissions")
        return
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(Status.FAILURE, check, f"{root} is not writable by this user", "run as the gateway's user")
        return
    yield Finding(Status.OK, check, f"{root} is private and writable")
    for file in (data.audit, data.control):
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            yield Finding(Status.FAILURE, check, f"{file} is not writable by this user", "run as the gateway's user")


def _disk(data: DataDir) -> Finding:
    place = data.root
    while not place.exists() and place != place.parent:
        place = place.parent
    usage = shutil.disk_usage(place)
    return look_at_disk(place, free=usage.free, total=usage.total)


def look_at_disk(place: Path, *, free: int, total: int) -> Finding:
    """Whether the bytes that are free leave the journal its reserve."""
    share = free / total if total else 0.0
    text = f"{share:.0%} of the disk under {place} is free"
    if share < _RESERVE:
        return Finding(Status.FAILURE, "disk", f"{text}; below {_RESERVE:.0%} nothing is served", "make room")
    if share < _LOW:
        return Finding(Status.WARNING, "disk", f"{text}; below {_RESERVE:.0%} nothing is served", "make room soon")
    return Finding(Status.OK, "disk", text)


def _lock(data: DataDir) -> Iterator[Finding]:
    owner = data.owner()
    if owner is None:
        yield Finding(Status.OK, "lock", "no gateway uses the data folder")
    else:
        yield Finding(Status.NOTE, "lock", f"process {owner} uses the data folder")


def _key(data: DataDir, name: str, referenced: frozenset[str]) -> Iterator[Finding]:
    check, path = f"key {name}", data.keys / name
    if name in referenced:
        yield Finding(Status.OK, check, "comes from a reference in the configuration")
        return
    try:
        check_private(data.keys, folder=True)
        check_private(path, folder=False)
    except FileNotFoundError:
        if name != ADMIN_TOKEN and data.audit.exists():
            remedy = "restore it from its backup; without it the stored data is of no use"
            yield Finding(Status.FAILURE, check, f"{path} is missing beside existing data", remedy)
        else:
            yield Finding(Status.NOTE, check, f"{path} does not exist yet; the first start makes it")
    except KeyRefused as refused:
        yield Finding(Status.FAILURE, check, str(refused), refused.remedy)
    except OSError as error:
        yield Finding(Status.FAILURE, check, f"{path} cannot be looked at: {error.strerror}", "correct its permissions")
    else:
        yield Finding(Status.OK, check, f"{path} is private")


def _written_in_the_future(data: DataDir, clock: Clock) -> Iterator[Finding]:
    for file in (data.audit, data.control):
        try:
            written = file.stat().st_mtime_ns // 1000
        except OSError:
            continue
        if written > clock.now_us() + _SKEW_US:
            yield Finding(
                Status.FAILURE,
                "clock",
                f"{file} was written in what this machine takes for the future",
                "correct the clock; budgets and expiries depend on it",
            )


def look_at_descriptors(soft: int) -> Finding:
    """Whether the soft limit on open files bears many streams."""
    check, text = "file descriptors", f"this process may open {soft}"
    remedy = f"raise the limit to {_ENOUGH_FILES} or more: ulimit -n, or LimitNOFILE= of its systemd unit"
    if soft == resource.RLIM_INFINITY:
        return Finding(Status.OK, check, "this process may open any number")
    if soft < _FEW_FILES:
        return Finding(Status.FAILURE, check, text, remedy)
    if soft < _ENOUGH_FILES:
        return Finding(Status.WARNING, check, f"{text}; a stream needs two", remedy)
    return Finding(Status.OK, check, text)


def _clock(clock: Clock) -> Finding:
    if clock.now_us() < _BUILT_US:
        return Finding(Status.FAILURE, "clock", "it shows a time before this program was made", "set it; run NTP")
    return Finding(Status.OK, "clock", "it shows a possible time")


def _backup(data: DataDir) -> dict[str, list[str]]:
    return {"together": [str(data.audit), str(data.control)], "apart": [str(data.keys)]}
