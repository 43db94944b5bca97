"""What this process has given its model server: which versions, and where the labels stand. Nobody else configures that server."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping

from feedback.clock import now_us
from serving.follower.plan import CANARY, LIVE, Configure, Loaded, State
from serving.follower.server import CallRefusedError, ModelServer

log = logging.getLogger("everloop.follower")

_LOST_S = 5.0
"""A version that was asked for and does not show in the server's status for so long has been forgotten by it."""


class Given:
    """The server's configuration as far as it is known. Of the thread that runs the loop."""

    def __init__(self, server: ModelServer, *, base_path: str, platform: str) -> None:
        self._server, self._base_path, self._platform = server, base_path, platform
        self.sent: Configure | None = None
        """What the server has got from this process; None: unknown."""
        self.labels: dict[str, int] = {}
        """The version that each label stands on."""
        self.left: dict[int, float] = {}
        """When a version lost its label (monotonic clock, s)."""
        self.asked: dict[int, int] = {}
        """When a version's load was asked for (wall clock, µs)."""
        self._missing: float | None = None

    def look(self, status: Mapping[int, Loaded], now: float) -> None:
        """Compare with what the server says; where this process has given it nothing, ask for its labels.

        Raises:
            UnavailableError: the server does not answer.
        """
        self._notice_restart(status, now)
        if self.sent is None:
            asked = {label: self._server.labelled(label) for label in (LIVE, CANARY)}
            self.labels = {label: version for label, version in asked.items() if version}

    def configure(self, wanted: Configure, loaded: Collection[int]) -> None:
        """Give the server this configuration. `loaded`: versions that it has already.

        Raises:
            UnavailableError: the server does not answer, or not in time.
            CallRefusedError: it refused.
        """
        asked = now_us()
        try:
            self._server.configure(wanted, base_path=self._base_path, platform=self._platform)
        except CallRefusedError:
            # The server has replaced its configuration even so: the next look begins from what is really there.
            self.sent = None
            raise
        for version in set(wanted.versions) - set(loaded):
            self.asked[version] = asked
        now = time.monotonic()
        for label, version in self.labels.items():
            if dict(wanted.labels).get(label) != version:
                self.left[version] = now
        self.sent, self.labels = wanted, dict(wanted.labels)
        for version in self.labels.values():
            self.left.pop(version, None)

    def _notice_restart(self, status: Mapping[int, Loaded], now: float) -> None:
        """A server that has lost what this process gave it has restarted: nothing is known of its configuration."""
        if self.sent is None:
            return
        gone = [v for v in self.labels.values() if v not in status or status[v].state is not State.AVAILABLE]
        missing = [version for version in self.sent.versions if version not in status]
        self._missing = (self._missing or now) if missing else None
        if gone or (self._missing is not None and now - self._missing > _LOST_S):
            log.warning("the model server has lost version(s) %s: it is configured anew", gone or missing)
            self.sent, self._missing = None, None
