"""The command as a person types it: exit statuses, one-line errors, one `up` per data folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from everloop import cli
from everloop.folders import Folders, exclusive, held

ROOT = Path(__file__).parents[2]
FEW = ("--only", "redis,topics")
"""Parts that start quickly."""


def everloop(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "everloop", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_config_prints_each_value_and_where_it_came_from(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data_dir / "everloop.toml").write_text("[kafka]\npartitions = 3\n[redis]\nurl = 'redis://:hunter2@localhost/0'\n")
    assert cli.run(["config", "--data", str(data_dir), "--json"]) == 0
    printed = capsys.readouterr().out
    settings = json.loads(printed)["settings"]
    assert settings["kafka.partitions"] == {"value": "3", "from": str(data_dir / "everloop.toml")}
    assert settings["kafka.replication"]["from"] == "default"
    assert "hunter2" not in printed


def test_a_mistake_in_the_configuration_is_one_line_and_exit_2(data_dir: Path) -> None:
    (data_dir / "everloop.toml").write_text("[kafka]\npartitions = 'many'\n")
    for command in ("config", "status", "doctor", "up"):
        done = everloop(command, "--data", str(data_dir))
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "kafka.partitions = 'many': must be a whole number" in done.stderr


def test_a_demo_that_lost_something_ends_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from everloop.demo import run as demos
    from everloop.figures import Machine, Report

    machine = Machine(cores=1, memory_gib=1.0, python="3", packages={})
    report = Report(bench="demo", at="2026-01-01T00:00:00+00:00", machine=machine, figures=[])
    lost = demos.Done(report=report, page=tmp_path, document=tmp_path, status=1)
    monkeypatch.setattr(demos, "demo", lambda settings: lost)
    assert cli.run(["demo", "--data", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["bench"] == "demo"


def test_no_command_returns_its_status_where_nobody_looks() -> None:
    """The command line's library ignores what a command returns: a status is raised."""
    app = cli.application()
    groups = [app, *(each.typer_instance for each in app.registered_groups if each.typer_instance is not None)]
    commands = [each.callback for group in groups for each in group.registered_commands if each.callback is not None]
    assert len(commands) > 20
    assert [each.__name__ for each in commands if each.__annotations__["return"] != "None"] == []


def test_an_unknown_option_is_exit_2_without_a_stack_trace() -> None:
    done = everloop("up", "--kafak", "x:1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "--kafka" in done.stderr


def test_an_unknown_part_is_exit_2_and_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["run", "streems"]) == 2
    assert "topics" in capsys.readouterr().err


def test_topics_are_created_once(
    kafka: str, namespace: str, data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLOOP_KAFKA__NAMESPACE", namespace)
    arguments = ["topics", "create", "--data", str(data_dir), "--kafka", kafka, "--json"]
    assert cli.run(arguments) == 0
    first = json.loads(capsys.readouterr().out)["created"]
    assert f"{namespace}predictions" in first
    assert cli.run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["created"] == []


def test_a_broker_that_does_not_answer_is_one_line_and_exit_1(data_dir: Path) -> None:
    done = everloop("topics", "create", "--data", str(data_dir), "--kafka", "127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_second_up_in_one_data_folder_says_so_and_exits_2(data_dir: Path) -> None:
    with exclusive(Folders(data_dir)):
        done = everloop("up", "--data", str(data_dir))
    assert done.returncode == 2
    assert done.stderr == f"everloop: already up in {data_dir} (pid {os.getpid()})\n"
    assert not held(Folders(data_dir))


def test_nothing_up_is_said_by_status_and_down(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["status", "--data", str(data_dir)]) == 1
    assert cli.run(["down", "--data", str(data_dir)]) == 0
    assert capsys.readouterr().out == f"nothing is up in {data_dir}\n" * 2


def wait_for(path: Path, *states: str, part: str) -> dict[str, object]:
    deadline = time.monotonic() + 60
    while True:
        found = json.loads(path.read_text()) if path.exists() else {"parts": {}}
        if found["parts"].get(part, {}).get("state") in states:
            return dict(found)
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_down_stops_what_up_started_and_leaves_no_process(kafka: str, namespace: str, data_dir: Path) -> None:
    environ = {**os.environ, "EVERLOOP_KAFKA__NAMESPACE": namespace}
    command = [sys.executable, "-m", "everloop", "up", "--data", str(data_dir), "--kafka", kafka, *FEW]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        found = wait_for(data_dir / "runtime.json", "ready", part="redis")
        wait_for(data_dir / "runtime.json", "done", part="topics")
        parts = found["parts"]
        assert isinstance(parts, dict)
        assert "kafka" not in parts
        redis = int(parts["redis"]["pid"])
        os.kill(redis, 0)
        status = json.loads(everloop("status", "--data", str(data_dir), "--json").stdout)
        assert status["up"] is True
        assert status["addresses"]["kafka"] == kafka
        assert everloop("down", "--data", str(data_dir)).returncode == 0
        assert process.wait(timeout=60) == 0
        with pytest.raises(ProcessLookupError):
            os.kill(redis, 0)


def test_up_ends_with_one_line_when_a_part_can_not_be_started(data_dir: Path) -> None:
    done = everloop(
        "up", "--data", str(data_dir), EVERLOOP_RUNTIME__KAFKA__HEAP_MIB="1", EVERLOOP_RUNTIME__ATTEMPTS="1"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("everloop: kafka can't be started: ")
    assert "Traceback" not in done.stderr


def test_a_part_that_there_is_not_is_refused_before_anything_starts(data_dir: Path) -> None:
    done = everloop("up", "--data", str(data_dir), "--only", "redis,kafak")
    assert done.returncode == 2
    assert done.stderr.startswith("everloop: --only kafak: one of kafka, redis, topics")
    assert not (data_dir / "redis").exists()


def test_up_detached_returns_when_all_is_ready(kafka: str, namespace: str, data_dir: Path) -> None:
    done = everloop(
        "up", "--detach", "--data", str(data_dir), "--kafka", kafka, *FEW, EVERLOOP_KAFKA__NAMESPACE=namespace
    )
    try:
        assert done.returncode == 0, done.stderr
        parts = json.loads((data_dir / "runtime.json").read_text())["parts"]
        assert {part["state"] for part in parts.values()} <= {"ready", "done"}
    finally:
        assert everloop("down", "--data", str(data_dir)).returncode == 0


def test_the_command_that_is_interrupted_stops_cleanly(kafka: str, namespace: str, data_dir: Path) -> None:
    environ = {**os.environ, "EVERLOOP_KAFKA__NAMESPACE": namespace}
    command = [sys.executable, "-m", "everloop", "up", "--data", str(data_dir), "--kafka", kafka, *FEW]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        wait_for(data_dir / "runtime.json", "ready", part="redis")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "stopping" in output
        assert not (data_dir / "runtime.json").exists()
