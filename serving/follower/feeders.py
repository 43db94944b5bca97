"""The feeders of one model server: one for each version that is loaded, and what they have come to, all together."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from feedback.settings import KafkaSettings
from serving.follower.apply import Applied, Feeder, Progress
from serving.follower.log import DeltaLog
from serving.follower.order import Rule
from serving.follower.plan import Loaded
from serving.follower.server import ModelServer
from serving.follower.settings import FollowerSettings


class Feeders:
    """Starts and ends feeders as versions come and go. Of the thread that runs the loop."""

    def __init__(
        self,
        kafka: KafkaSettings,
        server: ModelServer,
        settings: FollowerSettings,
        *,
        on_applied: Callable[[Applied], None],
        on_change: Callable[[], None],
    ) -> None:
        self._kafka, self._server, self._settings = kafka, server, settings
        self._on_applied, self._on_change = on_applied, on_change
        self._feeders: dict[int, Feeder] = {}
        self._since: dict[int, float] = {}
        self._ended = (0, 0)
        self._repairs: dict[int, int] = {}

    def get(self, version: int) -> Feeder | None:
        """The feeder of a version."""
        return self._feeders.get(version)

    def progress(self) -> dict[int, Progress]:
        """How far each version has come."""
        return {version: feeder.progress for version, feeder in self._feeders.items()}

    @property
    def checksums(self) -> tuple[int, int]:
        """Checksums that held and that did not, of all versions that ever were."""
        progress = self.progress().values()
        return self._ended[0] + sum(at.passed for at in progress), self._ended[1] + sum(at.failed for at in progress)

    def keep(
        self, available: Collection[int], *, now: float, line: Callable[[int], str], rule: Callable[[int], Rule]
    ) -> list[int]:
        """Have a feeder for each available version whose line is known, and no others; answers those that ended."""
        gone = [version for version in self._feeders if version not in available]
        for version in gone:
            self._drop(version)
        for version in set(available) - set(self._feeders):
            self._since[version] = now
            if name := line(version):
                self._start(version, name, rule(version))
        return gone

    def govern(self, rule: Callable[[int], Rule], labelled: Collection[int]) -> None:
        """Give each feeder the rule that holds for it now."""
        for version, feeder in self._feeders.items():
            wanted = rule(version)
            if feeder.rule != wanted:
                # What has no label yet or any more may be standing still for a swap.
                limit = None if version in labelled else feeder.rule.limit
                feeder.rule = replace(wanted, limit=limit)

    def with_progress(self, version: int, loaded: Loaded) -> Loaded:
        """What the server says of a version, and what its feeder knows."""
        feeder = self._feeders.get(version)
        if feeder is None:
            return loaded
        at = feeder.progress
        return replace(
            loaded,
            at=at.at,
            caught_up=at.known and at.caught_up,
            stuck=at.stuck,
            tainted=at.failed > 0 and self._repairs.get(version, 0) < self._settings.repairs,
            since=self._since.get(version, 0.0),
        )

    def stop(self) -> None:
        """End all threads."""
        for feeder in self._feeders.values():
            feeder.stop()

    def join(self, timeout_s: float) -> None:
        """Wait until they have ended, each so long at most."""
        for feeder in self._feeders.values():
            if feeder.is_alive():
                feeder.join(timeout_s)

    def _start(self, version: int, line: str, rule: Rule) -> None:
        feeder = Feeder(
            version,
            DeltaLog(self._kafka, line=line),
            self._server,
            self._settings,
            rule=rule,
            on_applied=self._on_applied,
            on_change=self._on_change,
        )
        self._feeders[version] = feeder
        feeder.start()

    def _drop(self, version: int) -> None:
        feeder = self._feeders.pop(version)
        feeder.stop()
        if feeder.progress.failed:
            self._repairs[version] = self._repairs.get(version, 0) + 1
        passed, failed = self._ended
        self._ended = (passed + feeder.progress.passed, failed + feeder.progress.failed)
        self._since.pop(version, None)
