"""A label moves to a version that has proved itself; the old one answers until the new one does.

For the moment of the move both bases stand still at one sequence: there they must be the same model, which the probes show, and
from there on only the new one goes on, so that no reader is ever given an older state than before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from feedback.errors import CorruptError, UnavailableError
from feedback.versions import Manifest
from serving.follower import verify
from serving.follower.apply import Feeder
from serving.follower.fetch import read_manifest
from serving.follower.plan import LIVE, Configure
from serving.follower.server import ModelServer
from serving.follower.settings import FollowerSettings

log = logging.getLogger("everloop.follower")

_SETTLE_S = 0.01
"""Time for a call in flight to come back."""
_LOOK_S = 0.002


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A label that is to move."""

    label: str
    version: int
    feeder: Feeder
    """Of the version."""
    old: Feeder | None
    """Of the version that the label leaves; None: it is new."""
    same_line: bool
    """Whether both are bases of one line."""
    sent: Configure
    """The configuration that the server has."""


def moved(sent: Configure, label: str, version: int) -> Configure:
    """The configuration in which the label stands on that version."""
    labels = {**dict(sent.labels), label: version}
    return Configure(sent.versions, tuple(sorted(labels.items())))


def perform(
    swap: Swap, server: ModelServer, folder: Path, settings: FollowerSettings, configure: Callable[[Configure], None]
) -> None:
    """Verify the version and move the label.

    Raises:
        CorruptError: the version did not pass; nothing has changed.
        UnavailableError: the server went away, or the version could not catch up in time; nothing is known to have changed.
        CallRefusedError: the server refused the label.
    """
    manifest = read_manifest(folder / str(swap.version))
    probes = verify.probes(folder / str(swap.version), manifest, settings.verify)
    attempts = settings.verify.attempts
    # Once while the old one goes on: the first run of a graph is slow.
    verify.ask(server, swap.version, probes, attempts=attempts)
    if swap.old is None or swap.label != LIVE:
        configure(moved(swap.sent, swap.label, swap.version))
        return
    same_rows = swap.same_line and _comparable(manifest, folder / str(swap.old.version))
    with _standing_still(swap, settings.catch_up_s):
        new = verify.ask(server, swap.version, probes, attempts=attempts)
        at, old = swap.feeder.progress.at, swap.old.progress.at
        # A rollback's base has a higher epoch: it is another model on purpose, and live may be what readers must get rid of.
        live = _scores_of_old(server, swap.old, probes, attempts) if not at.epoch > old.epoch else None
        if live is not None:
            verify.compare(new, live, same_model=same_rows and at == old, settings=settings.verify)
        configure(moved(swap.sent, swap.label, swap.version))


def _comparable(manifest: Manifest, old: Path) -> bool:
    """Whether both hold the same rows; unknown, so no, where the old one's manifest is gone: that says nothing against the new one."""
    try:
        return verify.comparable(manifest, read_manifest(old))
    except CorruptError:
        return False


def _scores_of_old(server: ModelServer, old: Feeder, probes: list[verify.Probe], attempts: int) -> verify.Scores | None:
    """What live answers to the probes; None when it is broken itself: then there is nothing to compare with."""
    if old.progress.failed:
        return None
    try:
        return verify.ask(server, old.version, probes, attempts=attempts)
    except CorruptError as error:
        log.warning("live can't be compared with: %s", error)
        return None


@contextmanager
def _standing_still(swap: Swap, timeout_s: float) -> Iterator[None]:
    """Hold both feeders at one sequence, or at least the new one no earlier than the old one."""
    old = swap.old
    assert old is not None
    rules = {feeder: feeder.rule for feeder in (swap.feeder, old)}
    try:
        if swap.same_line:
            _meet(swap.feeder, old, timeout_s)
        yield
    except BaseException:
        old.rule = replace(old.rule, limit=None)
        raise
    finally:
        # The old one stays where it is: it only finishes the requests that it has.
        swap.feeder.rule = replace(rules[swap.feeder], limit=None)


def _meet(new: Feeder, old: Feeder, timeout_s: float) -> None:
    for feeder in (new, old):
        feeder.rule = replace(feeder.rule, limit=0)
    time.sleep(_SETTLE_S)
    deadline = time.monotonic() + timeout_s
    while new.progress.at != old.progress.at and time.monotonic() < deadline:
        goal = max(new.progress.at, old.progress.at)
        for feeder in (new, old):
            if feeder.rule.limit != goal.sequence:
                feeder.rule = replace(feeder.rule, limit=goal.sequence)
        if new.progress.at >= old.progress.at and (
            old.progress.stuck or old.rule.frozen or old.rule.floor > old.progress.at.epoch
        ):
            return
        time.sleep(_LOOK_S)
    if new.progress.at < old.progress.at and not old.rule.floor > old.progress.at.epoch:
        raise UnavailableError(
            f"version {new.version} is at {new.progress.at}, live at {old.progress.at}: not caught up in time"
        )
