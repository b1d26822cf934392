"""The gateway's own keys: made once and private, never made again where data depends on them."""

import os
import re
import stat
from pathlib import Path

import pytest

from securellm.core.randomness import SystemRandomness
from securellm.secrets import KeyFolder, KeyRefused
from securellm.secrets.keys import ADMIN_TOKEN, AUDIT_KEY, PEPPER


class Counted:
    """Predictable bytes, another each time."""

    def __init__(self) -> None:
        self.drawn = 0

    def token(self, size: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(size, "big")

    def fraction(self) -> float:
        return 0.0


def folder(path: Path) -> KeyFolder:
    return KeyFolder(path / "data" / "keys", SystemRandomness())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.requirement("SC-1")
def test_keys_are_made_private_on_the_first_start_and_kept(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys = folder(tmp_path)
        made = [keys.pepper(create=True), keys.audit_key(create=True), keys.admin_token(create=True)]
    finally:
        os.umask(before)
    assert mode(keys.path) == 0o700
    assert sorted(path.name for path in keys.path.iterdir()) == sorted([PEPPER, AUDIT_KEY, ADMIN_TOKEN])
    assert all(mode(path) == 0o600 for path in keys.path.iterdir())
    again = folder(tmp_path)
    assert [again.pepper(create=True), again.audit_key(create=False), again.admin_token(create=False)] == made
    assert len({secret.reveal() for secret in made}) == 3


def test_pepper_and_audit_key_are_32_bytes_in_hex(tmp_path: Path) -> None:
    keys = folder(tmp_path)
    for secret in (keys.pepper(create=True), keys.audit_key(create=True)):
        assert re.fullmatch("[0-9a-f]{64}", secret.reveal())
    assert keys.admin_token(create=True).reveal().startswith("slb_admin_")


def test_a_missing_key_that_data_depends_on_is_never_made_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="is missing") as refused:
        folder(tmp_path).pepper(create=False)
    assert "backup" in refused.value.remedy
    assert not (tmp_path / "data").exists()


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize("loose", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_that_others_can_touch_is_refused(tmp_path: Path, loose: int) -> None:
    keys = folder(tmp_path)
    secret = keys.pepper(create=True)
    (keys.path / PEPPER).chmod(loose)
    with pytest.raises(KeyRefused, match="others can read it") as refused:
        keys.pepper(create=True)
    assert f"chmod 600 {keys.path / PEPPER}" in refused.value.remedy
    assert secret.reveal() not in f"{refused.value} {refused.value.remedy}"


def test_a_key_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    keys = folder(tmp_path)
    keys.pepper(create=True)
    keys.path.chmod(0o755)
    with pytest.raises(KeyRefused, match="others can read it"):
        keys.pepper(create=True)
    with pytest.raises(KeyRefused, match="others can read it"):
        keys.admin_token(create=True)


def test_a_link_in_place_of_a_key_is_refused(tmp_path: Path) -> None:
    keys = folder(tmp_path)
    keys.audit_key(create=True)
    (keys.path / PEPPER).symlink_to(keys.path / AUDIT_KEY)
    with pytest.raises(KeyRefused):
        keys.pepper(create=True)


def test_a_folder_in_place_of_a_key_is_refused(tmp_path: Path) -> None:
    keys = folder(tmp_path)
    keys.audit_key(create=True)
    (keys.path / PEPPER).mkdir(mode=0o700)
    with pytest.raises(KeyRefused, match="not a regular file"):
        keys.pepper(create=True)


@pytest.mark.parametrize("content", ["", "short", "A" * 64, "0" * 63, "0" * 64 + "\n\n", "0" * 5000])
def test_a_damaged_key_is_refused_without_being_shown(tmp_path: Path, content: str) -> None:
    keys = folder(tmp_path)
    keys.pepper(create=True)
    (keys.path / PEPPER).write_text(content)
    with pytest.raises(KeyRefused, match="does not hold a key") as refused:
        keys.pepper(create=True)
    assert "0" * 60 not in str(refused.value)


def test_of_two_first_starts_the_first_key_stands(tmp_path: Path) -> None:
    randomness = Counted()
    first = KeyFolder(tmp_path / "keys", randomness)

    class Late(Counted):
        """Draws its own key, and before it can write it another process has."""

        def token(self, size: int) -> bytes:
            first.pepper(create=True)
            return b"\xee" * size

    late = KeyFolder(tmp_path / "keys", Late())
    assert late.pepper(create=True) == first.pepper(create=False)
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [PEPPER]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(KeyRefused):
        folder(tmp_path).pepper(create=True)
