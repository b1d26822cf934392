"""The data directory: one owner at a time, private from the first moment."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from securellm.storage import DataDir, DataDirLocked, StorageRefused

HOLDER = """
import sys, pathlib
from securellm.storage import DataDir
with DataDir(pathlib.Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_owner_is_whoever_holds_the_lock_and_asking_takes_it_from_nobody(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    assert data.owner() is None
    with data.lock():
        assert data.owner() == str(os.getpid())
        assert DataDir(data.root).owner() == str(os.getpid())
    assert data.owner() is None
    assert not DataDir(tmp_path / "absent").owner()
    assert not (tmp_path / "absent").exists()


def test_the_directory_is_made_private_with_its_lock(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "var" / "securellm")
    with data.lock():
        assert stat.S_IMODE(data.root.stat().st_mode) == 0o700
        assert stat.S_IMODE((data.root / "lock").stat().st_mode) == 0o600
    assert (data.audit.name, data.control.name, data.keys.name) == ("audit.db", "control.db", "keys")


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    with data.lock():
        with pytest.raises(DataDirLocked) as refused, DataDir(tmp_path).lock():
            pytest.fail("two owners")
        assert str(os.getpid()) in refused.value.reason
        assert refused.value.remedy
    with data.lock():
        pass


def test_another_process_holds_the_lock_until_it_dies_however_it_dies(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DataDirLocked) as refused, DataDir(tmp_path).lock():
            pytest.fail("two owners")
        assert str(holder.pid) in refused.value.reason
        holder.send_signal(signal.SIGKILL)
        holder.wait(20)
    with DataDir(tmp_path).lock():
        pass


def test_a_path_that_cannot_be_a_directory_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(StorageRefused), DataDir(root).lock():
            pytest.fail("locked")


def test_the_lock_is_never_a_link_to_somebody_elses_file(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lock").symlink_to(victim)
    with pytest.raises(StorageRefused), DataDir(tmp_path / "data").lock():
        pytest.fail("locked")
    assert victim.read_text() == "precious"
