"""Every value in force has a place it comes from, and two configurations differ in what they say, not where."""

from pathlib import Path

import msgspec
from tests.unit.bootstrap.stored import ALL, FILE, SECRETS, whole

from securellm.bootstrap.effective import Effective
from securellm.bootstrap.explaining import Setting, diff, settings_of


def by_key(effective: Effective) -> dict[str, Setting]:
    found = settings_of(effective)
    assert len({setting.key for setting in found}) == len(found)
    msgspec.json.encode(found)
    return {setting.key: setting for setting in found}


def test_each_value_says_where_it_comes_from(tmp_path: Path) -> None:
    found = by_key(whole(tmp_path))

    def told(key: str) -> tuple[object, str, int | None]:
        setting = found[key]
        return setting.value, setting.source, setting.line

    assert told("mode") == ("test", "file", 1)
    assert told("server.drain") == ("30s", "default", None)
    assert told("server.max_body") == ("10MiB", "default", None)
    assert told("server.admin_listen") == (None, "default", None)
    assert told("providers[near].kind") == ("mock", "file", 5)
    assert told("providers[near].timeouts.total") == ("10m", "default", None)
    assert told("providers[far].credential") == ("env:THEIR_API_KEY", "store", None)
    assert told("models[big].retries") == (2, "default", None)
    assert told("models[small].name") == ("small", "file", 9)
    assert told("tenants[acme].budget.month") == ("10.00 USD", "file", 14)
    assert told("tenants[plain].budget.month") == ("5.00 USD", "store", None)
    assert told("tenants[plain].limits.requests_per_minute") == (60, "store", None)
    assert told("tenants[globex].guard") == ("strict", "store", None)
    assert told("tenants[plain].guard") == ("standard", "default", None)
    assert told("keys[0].secret") == ("env:ACME_KEY", "file", 21)
    assert not any(value in str(setting.value) for setting in found.values() for value in SECRETS.values())


def test_another_file_is_compared_by_what_it_says(tmp_path: Path) -> None:
    before = settings_of(whole(tmp_path))
    assert diff(before, settings_of(whole(tmp_path))) == ()
    text = FILE.replace('"10.00 USD"', '"11.00 USD"').replace("burst = 60", "burst = 61")
    text += '[server]\ndrain = "31s"\n\n[[tenants]]\nid = "late"\n'
    changed = {one.key: one for one in diff(before, settings_of(whole(tmp_path, *ALL, text=text)))}
    month = changed["tenants[acme].budget.month"]
    assert (month.before, month.after, month.at_start) == ("10.00 USD", "11.00 USD", False)
    drain = changed["server.drain"]
    assert (drain.before, drain.after, drain.at_start) == ("30s", "31s", True)
    assert changed["tenants[late].id"].before is None
    assert changed["providers[near].limits.burst"].after == 61
