"""One part's life on a thread of its own: wait, start, watch, start again, stop."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from everloop.runtime.journal import Journal, message
from everloop.runtime.parts import Event, Part, State, pause_s
from everloop.runtime.settings import RuntimeSettings
from everloop.runtime.spawn import guard, reap, spawn
from feedback.errors import ConfigError, CorruptError, EverloopError

_GLANCE_S = 0.05
"""How often a living process is looked at."""
_PROBE_S = 0.1
"""How often a starting one is asked whether it is ready."""
_MISUSE = 2
"""The exit status of a process whose configuration is wrong: starting it again would change nothing."""
_FENCED = 3
"""The exit status of a part that another one has taken over from: started again, the two would fence each other for ever."""


class Runner:
    """Keeps one part alive until it is asked to stop."""

    def __init__(
        self,
        part: Part,
        *,
        needs: list[Runner],
        settings: RuntimeSettings,
        journal: Journal,
        tell: Callable[[Event], None],
    ) -> None:
        self.part = part
        self.state = State.WAITING
        self.detail = ""
        self.since = datetime.now(UTC)
        self.pid: int | None = None
        self.restarts = 0
        self.exit_status: int | None = None
        """The last process's exit status; negative: the signal that killed it."""
        self.ready = threading.Event()
        """Set while the part is ready (or done)."""
        self._was_ready = False
        self._deaths = 0
        self._needs, self._settings, self._journal, self._tell = needs, settings, journal, tell
        self._stopping, self._hurry = threading.Event(), threading.Event()
        self._held = threading.Event()
        self._thread = threading.Thread(target=self._run, name=part.name, daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the part to end; returns at once."""
        self._stopping.set()

    def hurry(self) -> None:
        """Don't wait for a clean end."""
        self._hurry.set()
        self._stopping.set()

    def hold(self) -> None:
        """Kill the part, and keep it away until `release`."""
        self._held.set()

    def release(self) -> None:
        """Start a part again that was held."""
        self._held.clear()

    def join(self) -> None:
        """Wait until the part has ended."""
        if self._thread.is_alive():
            self._thread.join()
        self._journal.close()

    def _run(self) -> None:
        while not all(each.ready.is_set() for each in self._needs):
            if self._stopping.wait(_GLANCE_S):
                return self._become(State.STOPPED)
        while not self._stopping.is_set():
            if self._held.is_set():
                self._stopping.wait(_GLANCE_S)
                continue
            began = time.monotonic()
            why = self._live()
            if why is None:
                return None
            self._died(why, lived_s=time.monotonic() - began)
            if self.state is State.FAILED:
                return None
        return self._become(State.STOPPED)

    def _live(self) -> str | None:
        """Run one process from start to end; return why it ended, or None if there is nothing left to do."""
        self._become(State.STARTING)
        try:
            self.part.prepare()
            command = self.part.command()
        except (ConfigError, CorruptError) as error:
            return self._give_up(str(error))
        except EverloopError as error:
            return str(error)
        process = spawn(
            command, env=self.part.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, nice=self.part.nice
        )
        assert process.stdout is not None
        self.pid = process.pid
        copying = self._journal.follow(process.stdout)
        try:
            why = self._watch(process)
        finally:
            if process.poll() is None:
                self._end(process)
            reap(process)
            self.exit_status, self.pid = process.wait(), None
            copying.join()
            self.ready.clear()
        if self._stopping.is_set():
            self._become(State.STOPPED)
            return None
        if self.part.once and self.exit_status == 0:
            self._become(State.DONE)
            self.ready.set()
            return None
        return why or self._epitaph()

    def _watch(self, process: subprocess.Popen[bytes]) -> str | None:
        """Return when the process has ended or should: None if it ended by itself, else why it must."""
        deadline = time.monotonic() + self.part.ready_timeout_s
        asked = 0.0
        while process.poll() is None and not self._stopping.wait(_GLANCE_S):
            guard()
            if self._held.is_set():
                process.kill()
                process.wait()
                return "held"
            if self.ready.is_set() or time.monotonic() - asked < _PROBE_S:
                continue
            asked = time.monotonic()
            if asked > deadline:
                return f"not ready after {self.part.ready_timeout_s:g} s"
            if not self.part.once and self._answers():
                self._was_ready = True
                # Told first: whoever waits for `ready` may look at what has been told.
                self._become(State.READY)
                self.ready.set()
        return None

    def _answers(self) -> bool:
        try:
            return self.part.ready()
        except (EverloopError, OSError):
            return False

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._become(State.STOPPING)
        process.terminate()
        deadline = time.monotonic() + self.part.stop_timeout_s
        while process.poll() is None and time.monotonic() < deadline and not self._hurry.wait(_GLANCE_S):
            continue

    def _died(self, why: str, *, lived_s: float) -> None:
        if self._held.is_set():
            return self._become(State.STOPPED, why)
        self._deaths = 1 if self._was_ready and lived_s >= self._settings.backoff_forget_s else self._deaths + 1
        hopeless = not self._was_ready and (self.exit_status == _MISUSE or self._deaths >= self._settings.attempts)
        if hopeless or self.exit_status == _FENCED or self.state is State.FAILED:
            return self._become(State.FAILED, " ".join(why.split()))
        pause = pause_s(self._deaths, self._settings)
        self.restarts += 1
        self._become(State.RESTARTING, f"{' '.join(why.split())}; again in {pause:g} s")
        self._stopping.wait(pause)
        return None

    def _give_up(self, why: str) -> str:
        self.state = State.FAILED
        return why

    def _epitaph(self) -> str:
        status = self.exit_status or 0
        ended = f"killed by signal {-status}" if status < 0 else f"exited with status {status}"
        lines = self._journal.recent()
        return f"{ended}: {message(lines[-1])}" if lines and status > 0 else ended

    def _become(self, state: State, detail: str = "") -> None:
        self.state, self.detail, self.since = state, detail, datetime.now(UTC)
        if detail:
            self._journal.write(f"{state}: {detail}", level="warn")
        self._tell(Event(self.part.name, state, detail))
