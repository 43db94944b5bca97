"""The loop that keeps one model server at what `control` says: look, decide, act, again.

All decisions are `plan`'s; here the view is put together and the actions are carried out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from feedback.clock import now_us
from feedback.errors import CorruptError, EverloopError, UnavailableError
from feedback.settings import KafkaSettings
from feedback.versions import ModelEvent, Replica
from serving.follower import plan, swap
from serving.follower.apply import Applied
from serving.follower.downloads import Downloads
from serving.follower.feeders import Feeders
from serving.follower.given import Given
from serving.follower.order import Rule
from serving.follower.plan import LIVE, Configure, Fetch, Forget, Loaded, Promote, Refuse, State, View
from serving.follower.records import RecordReader, Records
from serving.follower.report import Metrics, Reporter, described
from serving.follower.server import ModelServer
from serving.follower.settings import FollowerSettings

log = logging.getLogger("everloop.follower")


class Follower:
    """One model server's follower. `tick` once, or `run` until stopped."""

    def __init__(
        self, *, kafka: KafkaSettings, settings: FollowerSettings, data: Path, replica: str, model_server: str
    ) -> None:
        self.settings, self.replica = settings, replica
        self.metrics = Metrics()
        root = Path(settings.folder) if settings.folder else data / "serving"
        self.folder = root.resolve() / settings.model
        shown = f"{settings.server_folder.rstrip('/')}/{settings.model}" if settings.server_folder else str(self.folder)
        self._server = ModelServer(model_server, model=settings.model, deadlines=settings.deadlines)
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._records = Records(settings.model)
        self._reader = RecordReader(kafka, self._records, on_change=self._wake.set)
        self._reporter = Reporter(kafka, report_s=settings.report_s, heartbeat_s=settings.heartbeat_s)
        self._limits = plan.Limits(first_live_s=settings.first_live_s, drain_s=settings.drain_s, keep=settings.keep)
        self._downloads = Downloads(self.folder, settings, on_done=self._wake.set)
        self._given = Given(self._server, base_path=shown, platform=settings.platform)
        self._feeders = Feeders(kafka, self._server, settings, on_applied=self._on_applied, on_change=self._wake.set)
        self._unusable: dict[int, str] = {}
        self._away = False
        self._swaps: deque[dict[str, int]] = deque(maxlen=1000)
        """Per label move: the version, when its load was asked for and when the label had moved (wall clock, µs)."""
        self._problem = ""
        self._view = View(now=0.0)

    # What others may ask

    @property
    def ready(self) -> bool:
        """Whether readers can be answered as fresh as can be: something is live, and has what the log has for it.

        A swap on the way or a gap doesn't change that: to take the replica away from readers would help nobody. A server that does not
        answer does, and one that can't be given what the log has.
        """
        live = self._given.labels.get(LIVE, 0)
        loaded = self._view.loaded.get(live)
        if loaded is None or loaded.state is not State.AVAILABLE or self._away:
            return False
        now = self._feeders.with_progress(live, loaded)
        return now.caught_up or bool(now.stuck)

    def status(self) -> dict[str, Any]:
        """All of it, for /status."""
        view = self._view
        return {
            "model": self.settings.model,
            "replica": self.replica,
            "model_server": self._server.address,
            "ready": self.ready,
            "problem": self._problem,
            **described(view),
            "swaps": list(self._swaps),
        }

    # The loop

    def start(self) -> None:
        """Tidy the folder and begin to read the control and models topics."""
        self._downloads.start()
        self._reader.start()

    def run(self) -> None:
        """Go on until stopped."""
        while not self._stopped.is_set():
            self._wake.clear()
            busy = self.tick()
            self._wake.wait(0.02 if busy else self.settings.poll_s)

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()
        self._wake.set()

    def close(self) -> None:
        """End all threads and disconnect."""
        self.stop()
        self._reader.stop()
        self._feeders.stop()
        if self._reader.is_alive():
            self._reader.join(5.0)
        self._feeders.join(5.0)
        self._downloads.close()
        self._reporter.close()
        self._server.close()

    def tick(self) -> bool:
        """Look, decide and act once; answer whether something was done."""
        if not self._reader.complete.is_set():
            self._problem = self._reader.problem or "reading the control and models topics"
            return False
        done = False
        try:
            self._look()
            action = plan.decide(self._view, self._limits)
            self._problem = self._trouble()
            if action is not None:
                self._perform(action)
                done = True
        except EverloopError as error:
            self._problem = str(error)
            log.warning("%s", error)
        self._report()
        return done

    # Looking

    def _look(self) -> None:
        now = time.monotonic()
        try:
            status = self._server.status()
        except UnavailableError:
            self._away = True
            raise
        self._away = False
        self._given.look(status, now)
        for version, reason in self._downloads.collect(now).items():
            self._refuse(version, reason)
        self._keep_feeders(status, now)
        self._view = View(
            now=now,
            control=self._records.control,
            known=self._records.known(),
            local=frozenset(self._downloads.local),
            fetching=self._downloads.coming(now),
            unusable=dict(self._unusable),
            loaded={version: self._feeders.with_progress(version, loaded) for version, loaded in status.items()},
            labels=dict(self._given.labels),
            left=dict(self._given.left),
            sent=self._given.sent,
        )
        self._feeders.govern(self._rule, self._given.labels.values())

    def _keep_feeders(self, status: Mapping[int, Loaded], now: float) -> None:
        available = {version for version, loaded in status.items() if loaded.state is State.AVAILABLE}
        for version in self._feeders.keep(available, now=now, line=self._line, rule=self._rule):
            self._given.left.pop(version, None)
            self.metrics.forget(version)

    def _line(self, version: int) -> str:
        if version in self._downloads.local:
            return self._downloads.local[version].line
        known = self._records.known().get(version)
        return known.line if known else ""

    def _rule(self, version: int) -> Rule:
        view = replace(
            self._view, control=self._records.control, known=self._records.known(), labels=self._given.labels
        )
        found = plan.rule(view, version)
        return found if self.settings.deltas else replace(found, frozen=True)

    def _on_applied(self, applied: Applied) -> None:
        self.metrics.applied(applied, live=self._given.labels.get(LIVE) == applied.version)

    # Acting

    def _perform(self, action: plan.Action) -> None:
        log.info("%s", action)
        match action:
            case Fetch(version):
                self._downloads.begin(version, self._view.known[version].uri)
            case Configure():
                self._configure(action)
            case Promote(version, label):
                self._promote(version, label)
            case Refuse(version, reason):
                self._refuse(version, reason)
            case Forget(version):
                self._downloads.forget(version)

    def _configure(self, wanted: Configure) -> None:
        self._given.configure(wanted, self._view.loaded)

    def _promote(self, version: int, label: str) -> None:
        assert self._view.sent is not None
        old, feeder = self._given.labels.get(label, 0), self._feeders.get(version)
        assert feeder is not None
        move = swap.Swap(
            label=label,
            version=version,
            feeder=feeder,
            old=self._feeders.get(old),
            same_line=bool(old) and self._line(old) == self._line(version),
            sent=self._view.sent,
        )
        try:
            swap.perform(move, self._server, self.folder, self.settings, self._configure)
        except CorruptError as error:
            self._refuse(version, f"did not verify: {error}")
            return
        self.metrics.swaps.labels(label).inc()
        begun = self._given.asked.get(version, now_us())
        self._swaps.append({"version": version, "asked": begun, "moved": now_us(), "live": int(label == LIVE)})
        if label == LIVE:
            self._say(version, "live", f"replaces version {old}" if old else "first on this replica")

    def _refuse(self, version: int, reason: str) -> None:
        self._unusable[version] = reason
        self.metrics.refused.inc()
        log.error("version %s is refused: %s", version, reason)
        self._say(version, "refused", reason)

    def _say(self, version: int, event: Literal["live", "refused"], reason: str) -> None:
        known = self._records.known().get(version)
        loaded = self._feeders.get(version)
        self._reporter.event(
            ModelEvent(
                model=self.settings.model,
                line=self._line(version),
                version=version,
                event=event,
                time=now_us(),
                epoch=known.epoch if known else 0,
                sequence=loaded.progress.at.sequence if loaded else known.sequence if known else 0,
                reason=reason,
                by=f"follower/{self.replica}",
            )
        )

    # Reporting

    def _trouble(self) -> str:
        if self._reader.problem:
            return self._reader.problem
        live = self._given.labels.get(LIVE, 0)
        feeder = self._feeders.get(live)
        if feeder is not None and (feeder.progress.stuck or feeder.progress.waiting):
            return f"version {live}: {feeder.progress.stuck or feeder.progress.waiting}"
        if feeder is not None and feeder.progress.failed:
            return f"version {live} differs from the trainer: {feeder.progress.failed} checksums did not hold"
        if (version := plan.targets(self._view).live) in self._downloads.failures:
            return f"version {version} can't be downloaded: {self._downloads.failures[version]}"
        return "" if live else "nothing is live"

    def _report(self) -> None:
        progress, checksums = self._feeders.progress(), self._feeders.checksums
        live = self._given.labels.get(LIVE, 0)
        self.metrics.show(progress, live=live, ready=self.ready, problem=bool(self._problem), checksums=checksums)
        self._reporter.standing(
            Replica(
                model=self.settings.model,
                replica=self.replica,
                time=now_us(),
                live=live,
                loaded={version: at.at.sequence for version, at in progress.items()},
                epoch=progress[live].at.epoch if live in progress else 0,
                sequence=progress[live].at.sequence if live in progress else 0,
                checksums_passed=checksums[0],
                checksums_failed=checksums[1],
                problem=self._problem,
                address=self._server.address,
            )
        )
