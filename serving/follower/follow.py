"""The loop that keeps one model server at what `control` says: look, decide, act, again.

All decisions are `plan`'s; here the view is put together and the actions are carried out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from feedback.clock import SECOND, now_us
from feedback.errors import CorruptError, EverloopError, UnavailableError
from feedback.settings import KafkaSettings
from feedback.versions import Manifest, ModelEvent, Replica
from serving.follower import plan, swap
from serving.follower.apply import Applied, Feeder
from serving.follower.fetch import fetch, on_disk, remove, sweep
from serving.follower.log import DeltaLog
from serving.follower.order import Rule
from serving.follower.plan import CANARY, LIVE, Configure, Fetch, Forget, Loaded, Promote, Refuse, State, View
from serving.follower.records import RecordReader, Records
from serving.follower.report import Metrics, Reporter
from serving.follower.server import CallRefusedError, ModelServer
from serving.follower.settings import FollowerSettings

log = logging.getLogger("everloop.follower")

_LOST_S = 5.0
"""A version that was asked for and does not show in the server's status for so long has been forgotten by it."""


class Follower:
    """One model server's follower. `tick` once, or `run` until stopped."""

    def __init__(
        self, *, kafka: KafkaSettings, settings: FollowerSettings, data: Path, replica: str, model_server: str
    ) -> None:
        self.settings, self.replica = settings, replica
        self.metrics = Metrics()
        self._kafka = kafka
        root = Path(settings.folder) if settings.folder else data / "serving"
        self.folder = root.resolve() / settings.model
        self._base_path = (
            f"{settings.server_folder.rstrip('/')}/{settings.model}" if settings.server_folder else str(self.folder)
        )
        self._server = ModelServer(model_server, model=settings.model, deadlines=settings.deadlines)
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._records = Records(settings.model)
        self._reader = RecordReader(kafka, self._records, on_change=self._wake.set)
        self._reporter = Reporter(kafka)
        self._limits = plan.Limits(first_live_s=settings.first_live_s, drain_s=settings.drain_s, keep=settings.keep)
        self._local: dict[int, Manifest] = {}
        self._unusable: dict[int, str] = {}
        self._left: dict[int, float] = {}
        self._since: dict[int, float] = {}
        self._missing: float | None = None
        self._away = False
        self._labels: dict[str, int] = {}
        self._sent: Configure | None = None
        self._feeders: dict[int, Feeder] = {}
        self._ended = (0, 0)
        self._downloads = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._fetching: dict[int, Future[Manifest]] = {}
        self._attempts: dict[int, int] = {}
        self._again: dict[int, float] = {}
        self._failures: dict[int, str] = {}
        self._repairs: dict[int, int] = {}
        self._asked: dict[int, int] = {}
        self._swaps: deque[dict[str, int]] = deque(maxlen=1000)
        """Per label move: the version, when its load was asked for and when the label had moved (wall clock, µs)."""
        self._problem = ""
        self._reported: tuple[float, Replica | None] = (0.0, None)
        self._view = View(now=0.0)

    # What others may ask

    @property
    def ready(self) -> bool:
        """Whether readers can be answered as fresh as can be: something is live, and has what the log has for it.

        A swap on the way or a gap doesn't change that: to take the replica away from readers would help nobody. A server that does not
        answer does, and one that can't be given what the log has.
        """
        live = self._labels.get(LIVE, 0)
        loaded = self._view.loaded.get(live)
        if loaded is None or loaded.state is not State.AVAILABLE or self._away:
            return False
        now = self._with_progress(live, loaded)
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
            "labels": dict(view.labels),
            "loaded": {
                str(version): {
                    "state": loaded.state.name.lower(),
                    "epoch": loaded.at.epoch,
                    "sequence": loaded.at.sequence,
                    "caught_up": loaded.caught_up,
                    "stuck": loaded.stuck,
                    "tainted": loaded.tainted,
                }
                for version, loaded in view.loaded.items()
            },
            "local": sorted(view.local),
            "fetching": sorted(view.fetching),
            "unusable": {str(version): reason for version, reason in view.unusable.items()},
            "floor": view.floor,
            "paused": bool(view.control and view.control.paused),
            "swaps": list(self._swaps),
        }

    # The loop

    def start(self) -> None:
        """Tidy the folder and begin to read the control and models topics."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        self._local = on_disk(self.folder)
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
        for feeder in self._feeders.values():
            feeder.stop()
        for thread in (self._reader, *self._feeders.values()):
            if thread.is_alive():
                thread.join(5.0)
        self._downloads.shutdown(wait=True, cancel_futures=True)
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
        self._notice_restart(status, now)
        if self._sent is None:
            asked = {label: self._server.labelled(label) for label in (LIVE, CANARY)}
            self._labels = {label: version for label, version in asked.items() if version}
        self._collect_downloads(now)
        self._keep_feeders(status, now)
        self._view = View(
            now=now,
            control=self._records.control,
            known=self._records.known(),
            local=frozenset(self._local),
            fetching=frozenset(self._fetching) | {version for version, at in self._again.items() if now < at},
            unusable=dict(self._unusable),
            loaded={version: self._with_progress(version, loaded) for version, loaded in status.items()},
            labels=dict(self._labels),
            left=dict(self._left),
            sent=self._sent,
        )
        for version, feeder in self._feeders.items():
            wanted = self._rule(version)
            if feeder.rule != wanted:
                # What has no label yet or any more may be standing still for a swap.
                limit = None if version in self._labels.values() else feeder.rule.limit
                feeder.rule = replace(wanted, limit=limit)

    def _notice_restart(self, status: Mapping[int, Loaded], now: float) -> None:
        """A server that has lost what this process gave it has restarted: nothing is known of its configuration."""
        if self._sent is None:
            return
        gone = [v for v in self._labels.values() if v not in status or status[v].state is not State.AVAILABLE]
        missing = [version for version in self._sent.versions if version not in status]
        self._missing = (self._missing or now) if missing else None
        if gone or (self._missing is not None and now - self._missing > _LOST_S):
            log.warning("the model server has lost version(s) %s: it is configured anew", gone or missing)
            self._sent, self._missing = None, None

    def _keep_feeders(self, status: Mapping[int, Loaded], now: float) -> None:
        available = {version for version, loaded in status.items() if loaded.state is State.AVAILABLE}
        for version in [v for v in self._feeders if v not in available]:
            self._drop(version)
        for version in available - set(self._feeders):
            self._since[version] = now
            line = self._line(version)
            if line:
                self._feed(version, line)

    def _line(self, version: int) -> str:
        if version in self._local:
            return self._local[version].line
        known = self._records.known().get(version)
        return known.line if known else ""

    def _feed(self, version: int, line: str) -> None:
        feeder = Feeder(
            version,
            DeltaLog(self._kafka, line=line),
            self._server,
            self.settings,
            rule=self._rule(version),
            on_applied=self._on_applied,
            on_change=self._wake.set,
        )
        self._feeders[version] = feeder
        feeder.start()

    def _rule(self, version: int) -> Rule:
        view = replace(self._view, control=self._records.control, known=self._records.known(), labels=self._labels)
        found = plan.rule(view, version)
        return found if self.settings.deltas else replace(found, frozen=True)

    def _drop(self, version: int) -> None:
        feeder = self._feeders.pop(version)
        feeder.stop()
        if feeder.progress.failed:
            self._repairs[version] = self._repairs.get(version, 0) + 1
        passed, failed = self._ended
        self._ended = (passed + feeder.progress.passed, failed + feeder.progress.failed)
        self._since.pop(version, None)
        self._left.pop(version, None)
        self.metrics.forget(version)

    def _with_progress(self, version: int, loaded: Loaded) -> Loaded:
        feeder = self._feeders.get(version)
        if feeder is None:
            return loaded
        at = feeder.progress
        return replace(
            loaded,
            at=at.at,
            caught_up=at.known and at.caught_up,
            stuck=at.stuck,
            tainted=at.failed > 0 and self._repairs.get(version, 0) < self.settings.repairs,
            since=self._since.get(version, 0.0),
        )

    def _on_applied(self, applied: Applied) -> None:
        self.metrics.applied(applied, live=self._labels.get(LIVE) == applied.version)

    # Acting

    def _perform(self, action: plan.Action) -> None:
        log.info("%s", action)
        match action:
            case Fetch(version):
                self._download(version)
            case Configure():
                self._configure(action)
            case Promote(version, label):
                self._promote(version, label)
            case Refuse(version, reason):
                self._refuse(version, reason)
            case Forget(version):
                remove(self.folder, version)
                self._local.pop(version, None)

    def _download(self, version: int) -> None:
        known = self._view.known[version]
        self._fetching[version] = self._downloads.submit(
            fetch, known.uri, self.folder, model=self.settings.model, version=version, storage=self.settings.storage
        )
        self._fetching[version].add_done_callback(lambda _: self._wake.set())

    def _collect_downloads(self, now: float) -> None:
        for version, future in list(self._fetching.items()):
            if not future.done():
                continue
            del self._fetching[version]
            error = future.exception()
            if error is None:
                self._local[version] = future.result()
                self._attempts.pop(version, None)
                self._failures.pop(version, None)
            elif isinstance(error, EverloopError):
                self._fetch_failed(version, error, now)
            else:
                raise error

    def _fetch_failed(self, version: int, error: EverloopError, now: float) -> None:
        self._again[version] = now + self.settings.fetch_retry_s
        self._failures[version] = str(error)
        log.warning("version %s was not downloaded: %s", version, error)
        if isinstance(error, UnavailableError):
            return
        self._attempts[version] = self._attempts.get(version, 0) + 1
        if self._attempts[version] >= self.settings.fetch_attempts:
            self._refuse(version, str(error))

    def _configure(self, wanted: Configure) -> None:
        asked = now_us()
        try:
            self._server.configure(wanted, base_path=self._base_path, platform=self.settings.platform)
        except CallRefusedError:
            # The server has replaced its configuration even so: the next look begins from what is really there.
            self._sent = None
            raise
        for version in set(wanted.versions) - set(self._view.loaded):
            self._asked[version] = asked
        now = time.monotonic()
        for label, version in self._labels.items():
            if dict(wanted.labels).get(label) != version:
                self._left[version] = now
        self._sent, self._labels = wanted, dict(wanted.labels)
        for version in self._labels.values():
            self._left.pop(version, None)

    def _promote(self, version: int, label: str) -> None:
        assert self._view.sent is not None
        old = self._labels.get(label, 0)
        move = swap.Swap(
            label=label,
            version=version,
            feeder=self._feeders[version],
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
        begun = self._asked.get(version, now_us())
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
        live = self._labels.get(LIVE, 0)
        feeder = self._feeders.get(live)
        if feeder is not None and (feeder.progress.stuck or feeder.progress.waiting):
            return f"version {live}: {feeder.progress.stuck or feeder.progress.waiting}"
        if feeder is not None and feeder.progress.failed:
            return f"version {live} differs from the trainer: {feeder.progress.failed} checksums did not hold"
        if (version := plan.targets(self._view).live) in self._failures:
            return f"version {version} can't be downloaded: {self._failures[version]}"
        return "" if live else "nothing is live"

    def _report(self) -> None:
        self._measure()
        progress = {version: feeder.progress for version, feeder in self._feeders.items()}
        live = self._labels.get(LIVE, 0)
        record = Replica(
            model=self.settings.model,
            replica=self.replica,
            time=now_us(),
            live=live,
            loaded={version: at.at.sequence for version, at in progress.items()},
            epoch=progress[live].at.epoch if live in progress else 0,
            sequence=progress[live].at.sequence if live in progress else 0,
            checksums_passed=self._ended[0] + sum(at.passed for at in progress.values()),
            checksums_failed=self._ended[1] + sum(at.failed for at in progress.values()),
            problem=self._problem,
            address=self._server.address,
        )
        sent_at, before = self._reported
        now = time.monotonic()
        changed = before is None or msgspec.structs.replace(before, time=record.time) != record
        if now - sent_at >= (self.settings.report_s if changed else self.settings.heartbeat_s):
            self._reporter.replica(record)
            self._reported = (now, record)

    def _measure(self) -> None:
        metrics, live = self.metrics, self._labels.get(LIVE, 0)
        metrics.live.set(live)
        metrics.ready.set(self.ready)
        metrics.problem.set(bool(self._problem))
        progress = {version: feeder.progress for version, feeder in self._feeders.items()}
        for version, at in progress.items():
            metrics.sequence.labels(str(version)).set(at.at.sequence)
        metrics.retries.set(sum(at.retries for at in progress.values()))
        metrics.passed.set(self._ended[0] + sum(at.passed for at in progress.values()))
        metrics.failed.set(self._ended[1] + sum(at.failed for at in progress.values()))
        if live in progress:
            metrics.watermark.set(progress[live].watermark / SECOND)
