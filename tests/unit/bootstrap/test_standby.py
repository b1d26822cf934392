"""What is kept for a start without the store is given back whole and unchanged, in time, or not at all."""

import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.unit.bootstrap.stored import ALL, stored
from tests.unit.clocks import ManualClock

from securellm.bootstrap import standby as module
from securellm.bootstrap.standby import Known, Standby, StandbyRefused
from securellm.identity import ServiceIdentity, VirtualKey
from securellm.policy import Declared, read_bundle

SECRET, PEPPER = b"s" * 32, b"p" * 32
BUNDLE = read_bundle(b'{"policies": {"all": "permit (principal, action, resource);"}}')


def key(name: str, *, revoked: bool = False) -> VirtualKey:
    return VirtualKey(
        id=name,
        tenant="acme",
        name="caf\u00e9 \u2028",
        prefix="slb_",
        digest=name.encode().ljust(32, b"\0"),
        models=("*",),
        created_us=5,
        revoked_us=7 if revoked else None,
        managed_by="api",
    )


def known(*keys: VirtualKey, version: int = 3) -> Known:
    return Known(
        version=version,
        stored=stored(*ALL),
        keys={one.id: one for one in keys},
        policies=(Declared(tenant="", state="enforced", bundle=BUNDLE),),
        services=(ServiceIdentity(id="svc", tenant="acme", issuer="i", subject="s", created_us=0),),
    )


def opened(folder: Path, clock: ManualClock, *, secret: bytes = SECRET, pepper: bytes = PEPPER) -> Standby:
    return Standby(folder, secret=secret, pepper=pepper, clock=clock)


def kept(folder: Path, clock: ManualClock) -> Standby:
    """Two keys, one of them revoked after the first writing; confirmed now."""
    standby = opened(folder, clock)
    standby.write(known(key("a"), key("b")))
    standby.append(known(key("a"), key("b", revoked=True), version=4), ["b"], all_else=False)
    standby.confirm(age=0.0)
    return standby


def refusal(standby: Standby, *, fence: float = 60.0) -> str:
    with pytest.raises(StandbyRefused) as refused:
        standby.read(fence=fence)
    return refused.value.reason


def test_another_process_reads_back_what_was_kept(tmp_path: Path) -> None:
    clock = ManualClock()
    kept(tmp_path, clock)
    clock.advance(12)
    found, age = opened(tmp_path, clock).read(fence=60)
    assert found == known(key("a"), key("b", revoked=True), version=4)
    assert age == 12
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("most", [0, 3, 100])
def test_changes_are_appended_and_now_and_then_all_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(module, "MOST_APPENDED", most)
    monkeypatch.setattr(module, "BREATH_EVERY", 2)
    clock = ManualClock()
    standby = opened(tmp_path, clock)
    keys = {name: key(name) for name in "abcde"}
    standby.write(known(*keys.values()))
    for step, name in enumerate("abc"):
        keys[name] = key(name, revoked=True)
        gone = "de"[step] if step < 2 else "none"
        keys.pop(gone, None)
        now = known(*keys.values(), version=10 + step)
        now = msgspec.structs.replace(now, stored={}) if step == 1 else now
        standby.append(now, [name, gone], all_else=step >= 1)
    standby.confirm(age=0)
    assert opened(tmp_path, clock).read(fence=60)[0] == known(*keys.values(), version=12)


def test_keys_of_the_file_are_not_kept(tmp_path: Path) -> None:
    clock = ManualClock()
    standby = opened(tmp_path, clock)
    standby.write(known(key("a"), msgspec.structs.replace(key("f"), managed_by="file")))
    standby.confirm(age=0)
    assert list(opened(tmp_path, clock).read(fence=60)[0].keys) == ["a"]


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    clock = ManualClock()
    kept(tmp_path, clock)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for place in range(0, len(whole) - 1, 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            refusal(opened(tmp_path, clock))
        path.write_bytes(whole)
    opened(tmp_path, clock).read(fence=60)


def test_a_change_that_is_taken_away_is_noticed(tmp_path: Path) -> None:
    clock = ManualClock()
    kept(tmp_path, clock)
    path = tmp_path / "last-known"
    lines = path.read_bytes().splitlines(keepends=True)
    for left_out in range(len(lines)):
        path.write_bytes(b"".join(line for number, line in enumerate(lines) if number != left_out))
        assert "changed by somebody else" in refusal(opened(tmp_path, clock))


def test_a_line_that_was_being_written_does_no_harm_and_a_whole_one_counts(tmp_path: Path) -> None:
    clock = ManualClock()
    standby = kept(tmp_path, clock)
    standby.append(known(key("a", revoked=True), key("b", revoked=True), version=5), ["a"], all_else=False)
    path = tmp_path / "last-known"
    whole = path.read_bytes()
    assert opened(tmp_path, clock).read(fence=60)[0].keys["a"].revoked_us == 7
    path.write_bytes(whole[:-20])
    assert opened(tmp_path, clock).read(fence=60)[0].version == 4


@pytest.mark.parametrize(
    ("move", "reason"),
    [
        (lambda clock: clock.advance(61), "confirmed 61 s ago"),
        (lambda clock: setattr(clock, "us", clock.us + 10_000_000), "clock has jumped"),
        (lambda clock: setattr(clock, "us", clock.us - 10_000_000), "clock has jumped"),
        (lambda clock: setattr(clock, "ticks", 1_000_000), "restarted"),
    ],
)
def test_what_is_too_old_or_cannot_be_dated_is_refused(
    tmp_path: Path, move: Callable[[ManualClock], object], reason: str
) -> None:
    clock = ManualClock()
    kept(tmp_path, clock)
    move(clock)
    assert reason in refusal(opened(tmp_path, clock))


def test_files_brought_back_from_the_past_are_refused_even_when_the_clock_is_set_back_too(tmp_path: Path) -> None:
    clock = ManualClock()
    kept(tmp_path, clock)
    before = clock.us
    clock.advance(3600)
    clock.us = before + 1_000_000
    assert "clock has jumped" in refusal(opened(tmp_path, clock))


def test_another_instance_or_another_pepper_is_refused(tmp_path: Path) -> None:
    clock = ManualClock()
    kept(tmp_path, clock)
    assert "changed by somebody else" in refusal(opened(tmp_path, clock, secret=b"t" * 32))
    assert "pepper" in refusal(opened(tmp_path, clock, pepper=b"q" * 32))


def test_nothing_kept_and_rubbish_are_refused(tmp_path: Path) -> None:
    clock = ManualClock()
    assert "nothing is kept" in refusal(opened(tmp_path, clock))
    kept(tmp_path, clock)
    for path in tmp_path.iterdir():
        whole = path.read_bytes()
        for rubbish in (b"", b"\xff\x00", b"{}", b"[" * 100_000):
            path.write_bytes(rubbish)
            refusal(opened(tmp_path, clock))
        path.write_bytes(whole)


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "last-known.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        opened(tmp_path, ManualClock()).write(known())
    assert victim.read_text() == "mine"
