"""Small real processes under the supervisor: started in order, started again, stopped in order, never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from everloop.folders import Folders
from everloop.runtime.parts import Event, Part, State
from everloop.runtime.settings import RuntimeSettings
from everloop.runtime.supervise import Supervisor
from feedback.errors import UnavailableError

QUICK = RuntimeSettings(backoff_first_s=0.05, backoff_most_s=0.4, attempts=3)

SLEEPER = "import time\nprint('here', flush=True)\ntime.sleep(600)"


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def eventually(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """A zombie whose parent has not looked yet is dead."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


class Watched:
    """A running supervisor and what it has told."""

    def __init__(self, folder: Path, parts: list[Part]) -> None:
        self.events: list[Event] = []
        self.folders = Folders(folder)
        self.supervisor = Supervisor(parts, folders=self.folders, settings=QUICK, tell=self.events.append)

    def pid(self, name: str) -> int:
        pid = self.supervisor.runners[name].pid
        assert pid is not None
        return pid

    def states(self, name: str) -> list[State]:
        return [event.state for event in self.events if event.part == name]


@contextmanager
def supervised(folder: Path, *parts: Part) -> Iterator[Watched]:
    watched = Watched(folder, list(parts))
    watched.supervisor.start()
    try:
        yield watched
    finally:
        watched.supervisor.stop(hurry=True)


def test_a_killed_part_comes_back_after_a_growing_pause(tmp_path: Path) -> None:
    with supervised(tmp_path, Part(name="sleeper", argv=python(SLEEPER))) as watched:
        for _ in range(3):
            watched.supervisor.wait_ready(timeout_s=60)
            killed = watched.pid("sleeper")
            os.kill(killed, signal.SIGKILL)
            eventually(lambda killed=killed: watched.supervisor.runners["sleeper"].pid not in (None, killed))  # type: ignore[misc]
        restarts = [event.detail for event in watched.events if event.state is State.RESTARTING]
        assert restarts == [f"killed by signal 9; again in {pause} s" for pause in ("0.05", "0.1", "0.2")]
        assert watched.supervisor.runners["sleeper"].restarts == 3


def test_a_held_part_stays_away_until_it_is_released(tmp_path: Path) -> None:
    with supervised(tmp_path, Part(name="sleeper", argv=python(SLEEPER))) as watched:
        watched.supervisor.wait_ready(timeout_s=60)
        runner, first = watched.supervisor.runners["sleeper"], watched.pid("sleeper")
        runner.hold()
        eventually(lambda: runner.state is State.STOPPED)
        assert not alive(first)
        time.sleep(3 * QUICK.backoff_most_s)
        assert (runner.state, runner.pid, runner.restarts) == (State.STOPPED, None, 0)
        assert not watched.supervisor.ready()
        runner.release()
        watched.supervisor.wait_ready(timeout_s=60)
        assert watched.pid("sleeper") != first


def test_a_part_that_stands_back_has_its_niceness_and_its_children_too(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import os; print(os.nice(0), flush=True)'])\n"
        + SLEEPER
    )
    back, front = Part(name="back", argv=python(code), nice=7), Part(name="front", argv=python(SLEEPER))
    with supervised(tmp_path, back, front) as watched:
        watched.supervisor.wait_ready(timeout_s=60)
        log = watched.folders.logs / "back.log"
        eventually(lambda: log.exists() and "here" in log.read_text())
        assert json.loads(log.read_text().splitlines()[0])["message"] == "7"
        niceness = {name: os.getpriority(os.PRIO_PROCESS, watched.pid(name)) for name in ("back", "front")}
        assert niceness == {"back": 7, "front": os.nice(0)}


def test_a_part_starts_only_when_what_it_needs_is_ready(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    first = Part(name="first", argv=python(SLEEPER), ready=flag.exists)
    second = Part(name="second", argv=python(SLEEPER), after=("first",))
    with supervised(tmp_path / "data", first, second) as watched:
        eventually(lambda: watched.states("first") == [State.STARTING])
        assert watched.states("second") == []
        flag.touch()
        watched.supervisor.wait_ready(timeout_s=60)
        assert watched.states("second") == [State.STARTING, State.READY]


def test_a_step_is_done_when_it_has_exited_well_and_run_again_when_not(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    code = f"import os, sys\nif os.path.exists({str(flag)!r}): sys.exit(0)\nopen({str(flag)!r}, 'w')\nsys.exit(1)"
    step = Part(name="step", argv=python(code), once=True)
    with supervised(tmp_path / "data", step) as watched:
        watched.supervisor.wait_ready(timeout_s=60)
        assert watched.states("step") == [State.STARTING, State.RESTARTING, State.STARTING, State.DONE]


def test_parts_stop_in_the_reverse_order_of_their_needs(tmp_path: Path) -> None:
    record = tmp_path / "record"
    code = (
        "import os, signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(0.1)\n"
        f"    os.write(os.open({str(record)!r}, os.O_APPEND | os.O_CREAT | os.O_WRONLY), (sys.argv[1] + ' ').encode())\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open(sys.argv[2], 'w').close()\n"
        "time.sleep(600)"
    )

    def part(name: str, *after: str) -> Part:
        up = tmp_path / name
        return Part(name=name, argv=[*python(code), name, str(up)], ready=up.exists, after=after)

    parts = [part("kafka"), part("join", "kafka"), part("trainer", "join"), part("gateway", "kafka")]
    watched = Watched(tmp_path / "data", parts)
    watched.supervisor.start()
    watched.supervisor.wait_ready(timeout_s=60)
    watched.supervisor.stop()
    stopped = record.read_text().split()
    assert sorted(stopped[:2]) == ["gateway", "trainer"]
    assert stopped[2:] == ["join", "kafka"]
    assert not watched.folders.runtime.exists()


def test_a_part_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    stubborn = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('here', flush=True)\ntime.sleep(600)"
    )
    part = Part(name="stubborn", argv=python(stubborn), stop_timeout_s=0.2)
    watched = Watched(tmp_path, [part])
    watched.supervisor.start()
    eventually(lambda: "here" in (tmp_path / "logs" / "stubborn.log").read_text())
    pid = watched.pid("stubborn")
    watched.supervisor.stop()
    assert not alive(pid)


def test_grandchildren_of_a_killed_part_do_not_outlive_it(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(600)"
    )
    with supervised(tmp_path, Part(name="parent", argv=python(parent))) as watched:
        log = tmp_path / "logs" / "parent.log"
        eventually(lambda: log.exists() and bool(log.read_text()))
        grandchild = int(json.loads(log.read_text().splitlines()[0])["message"])
        os.kill(watched.pid("parent"), signal.SIGKILL)
        eventually(lambda: not alive(grandchild))


def test_a_part_that_is_never_ready_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    part = Part(name="broken", argv=python("import sys; print('no disk left'); sys.exit(1)"), ready=lambda: False)
    with supervised(tmp_path, part) as watched:
        with pytest.raises(UnavailableError, match=r"broken: exited with status 1: no disk left"):
            watched.supervisor.wait_ready(timeout_s=60)
        assert watched.states("broken").count(State.STARTING) == QUICK.attempts


def test_a_part_with_a_wrong_configuration_is_not_started_again(tmp_path: Path) -> None:
    with supervised(
        tmp_path, Part(name="broken", argv=python("import sys; sys.exit(2)"), ready=lambda: False)
    ) as watched:
        with pytest.raises(UnavailableError, match="broken: exited with status 2"):
            watched.supervisor.wait_ready(timeout_s=60)
        assert watched.states("broken") == [State.STARTING, State.FAILED]


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        supervised(tmp_path, Part(name="absent", argv=["/nowhere/server"], ready=lambda: False)) as watched,
        pytest.raises(UnavailableError, match=r"/nowhere/server: No such file"),
    ):
        watched.supervisor.wait_ready(timeout_s=60)


def test_a_part_that_hangs_in_its_start_is_started_again(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    code = f"import os, time\nif os.path.exists({str(flag)!r}): open({str(flag)!r} + '2', 'w')\nopen({str(flag)!r}, 'w')\ntime.sleep(600)"
    second = tmp_path / "flag2"
    part = Part(name="slow", argv=python(code), ready=second.exists, ready_timeout_s=1.0)
    with supervised(tmp_path / "data", part) as watched:
        watched.supervisor.wait_ready(timeout_s=60)
        assert "not ready after 1 s" in next(e.detail for e in watched.events if e.state is State.RESTARTING)


def test_every_line_of_a_log_is_json_whatever_the_part_prints(tmp_path: Path) -> None:
    code = (
        'import sys\nprint(\'plain\')\nprint(\'{"message": "own", "level": "debug"}\')\n'
        "sys.stdout.flush(); sys.stdout.buffer.write(b'\\xff{broken\\n\\n')\nprint('to stderr', file=sys.stderr)"
    )
    with supervised(tmp_path, Part(name="talker", argv=python(code), once=True)) as watched:
        watched.supervisor.wait_ready(timeout_s=60)
    lines = [json.loads(line) for line in (tmp_path / "logs" / "talker.log").read_text().splitlines()]
    assert sorted(line["message"] for line in lines) == sorted(["plain", "own", "\ufffd{broken", "to stderr"])
    assert {"message": "own", "level": "debug"} in lines


def test_a_log_file_never_grows_beyond_its_limit_by_more_than_a_line(tmp_path: Path) -> None:
    settings = RuntimeSettings(log_bytes=2000)
    part = Part(name="talker", argv=python("for n in range(100): print('x' * 100)"), once=True)
    supervisor = Supervisor([part], folders=Folders(tmp_path), settings=settings)
    supervisor.start()
    supervisor.wait_ready(timeout_s=60)
    supervisor.stop()
    sizes = [path.stat().st_size for path in (tmp_path / "logs").iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 2000 + 300


def test_what_runs_is_written_down_for_the_other_commands(tmp_path: Path) -> None:
    part = Part(name="sleeper", argv=python(SLEEPER), ports={"http": 1234})
    with supervised(tmp_path, part) as watched:
        watched.supervisor.wait_ready(timeout_s=60)
        found = json.loads(watched.folders.runtime.read_text())
        assert found["pid"] == os.getpid()
        assert found["parts"]["sleeper"]["state"] == "ready"
        assert found["parts"]["sleeper"]["pid"] == watched.pid("sleeper")
        assert found["parts"]["sleeper"]["ports"] == {"http": 1234}


OWNER = """
import sys, time
from pathlib import Path
from everloop.folders import Folders
from everloop.runtime.parts import Part
from everloop.runtime.settings import RuntimeSettings
from everloop.runtime.supervise import Supervisor
nest = "import subprocess, sys, time; " \\
    "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(600)']); " \\
    "print(child.pid, flush=True); time.sleep(600)"
parts = [Part(name=f"part{n}", argv=[sys.executable, "-I", "-S", "-c", nest]) for n in range(3)]
supervisor = Supervisor(parts, folders=Folders(Path(sys.argv[1])), settings=RuntimeSettings())
supervisor.start()
time.sleep(600)
"""


class Owner:
    """A process that supervises three parts, each with a child of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)])
        logs = [folder / "logs" / f"part{n}.log" for n in range(3)]
        eventually(lambda: all(log.exists() and bool(log.read_text().strip()) for log in logs))
        # A part may have printed before the process that started it has written down its number.
        eventually(lambda: all(pid is not None for pid in _pids(folder)))
        self.family = [int(json.loads(log.read_text().splitlines()[0])["message"]) for log in logs]
        self.family += [pid for pid in _pids(folder) if pid is not None]

    def wardens(self) -> list[int]:
        """The living children of the process that run warden.py."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for each in children for pid in each.read_text().split()]
        return [pid for pid in pids if alive(pid) and "warden.py" in Path(f"/proc/{pid}/cmdline").read_text()]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _pids(folder: Path) -> list[int | None]:
    parts = json.loads((folder / "runtime.json").read_text())["parts"].values()
    return [part["pid"] for part in parts] or [None]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(tmp_path)
    yield owner
    owner.kill()


def test_nothing_outlives_a_supervisor_that_is_killed(owner: Owner) -> None:
    assert len(owner.family) == 6
    assert all(alive(pid) for pid in owner.family)
    owner.kill()
    eventually(lambda: not any(alive(pid) for pid in owner.family))


def test_nothing_outlives_a_supervisor_whose_warden_was_killed_before(owner: Owner) -> None:
    [first] = owner.wardens()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: any(warden != first for warden in owner.wardens()))
    assert all(alive(pid) for pid in owner.family)
    owner.kill()
    eventually(lambda: not any(alive(pid) for pid in owner.family))


def test_stopping_can_be_hurried_from_another_thread(tmp_path: Path) -> None:
    stubborn = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('here', flush=True)\ntime.sleep(600)"
    )
    watched = Watched(tmp_path, [Part(name="stubborn", argv=python(stubborn), stop_timeout_s=600)])
    watched.supervisor.start()
    eventually(lambda: "here" in (tmp_path / "logs" / "stubborn.log").read_text())
    stopping = threading.Thread(target=watched.supervisor.stop)
    stopping.start()
    eventually(lambda: State.STOPPING in watched.states("stubborn"))
    watched.supervisor.hurry()
    stopping.join(timeout=60)
    assert not stopping.is_alive()
