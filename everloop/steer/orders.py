"""Orders: from the control record in force to the next one. Pure; what makes no sense is refused before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec.structs import replace

from feedback.errors import UsageError
from feedback.versions import Canary, Control
from serving.follower.plan import Known

Versions = Mapping[int, Known]


def pin(control: Control, versions: Versions, version: int) -> Control:
    """Keep a version live, whatever is exported.

    Raises:
        UsageError: there is no such version, it was refused, or its epoch is over.
    """
    known = _named(versions, version)
    if known.refused:
        raise UsageError(f"version {version} was refused: it can't be pinned")
    if known.epoch < control.epoch:
        raise UsageError(
            f"version {version} is of epoch {known.epoch}, {control.epoch} is in force: "
            f"`everloop rollback {version}` makes a new version of it"
        )
    return replace(control, version=version, pinned=True)


def unpin(control: Control) -> Control:
    """Let the newest version that passed the gate be live again.

    Raises:
        UsageError: nothing is pinned.
    """
    if not control.pinned and not control.version:
        raise UsageError("no version is pinned")
    return replace(control, version=0, pinned=False)


def rollback(control: Control, versions: Versions, version: int) -> Control:
    """Go back to the state of a version: a higher epoch, a new base from its checkpoint, nothing new until `resume`.

    Raises:
        UsageError: there is no such version, or it was refused.
    """
    known = _named(versions, version)
    if known.refused:
        raise UsageError(f"version {version} was refused: it can't be rolled back to")
    epoch = max([control.epoch, *(other.epoch for other in versions.values())]) + 1
    return replace(control, version=version, pinned=False, epoch=epoch, paused=True, resume="", canary=None)


def before(versions: Versions, live: int) -> int:
    """The version to roll back to when none is named: the newest good one before the live one.

    Raises:
        UsageError: there is none.
    """
    found = [
        known.version for known in versions.values() if known.passed and not known.refused and known.version < live
    ]
    if not found:
        raise UsageError(f"no version before {live} has passed the gate: nothing to roll back to")
    return max(found)


def resume(control: Control, how: Literal["relearn", "skip"]) -> Control:
    """Let deltas and versions out again; what came since is learned anew or left out.

    Raises:
        UsageError: nothing is paused.
    """
    if not control.paused:
        raise UsageError("nothing is paused: there is nothing to resume")
    return replace(control, version=0, paused=False, resume=how)


def start_canary(control: Control, versions: Versions, version: int, *, share: float, now: int) -> Control:
    """Send a share of the users to a version.

    Raises:
        UsageError: there is no such version, another canary runs, or the share is none.
    """
    known = _named(versions, version)
    if control.canary is not None:
        raise UsageError(f"version {control.canary.version} is the canary already: stop it first")
    if control.paused:
        raise UsageError("versions are paused: resume first")
    if known.refused or known.epoch < control.epoch:
        raise UsageError(f"version {version} was refused or is of an epoch that is over")
    if not 0 < share < 1:
        raise UsageError(f"share = {share}: above 0 and below 1 is allowed")
    return replace(control, canary=Canary(version=version, share=share, started=now))


def drop_canary(control: Control) -> Control:
    """Send all users to the live version again.

    Raises:
        UsageError: no canary runs.
    """
    _canary(control)
    return replace(control, canary=None)


def promote_canary(control: Control) -> Control:
    """Make the canary's version, and what its line makes after it, live.

    Raises:
        UsageError: no canary runs.
    """
    return replace(control, version=_canary(control).version, pinned=False, canary=None)


def _canary(control: Control) -> Canary:
    if control.canary is None:
        raise UsageError("no canary runs")
    return control.canary


def _named(versions: Versions, version: int) -> Known:
    if version not in versions:
        there = ", ".join(str(number) for number in sorted(versions)[-5:]) or "none"
        raise UsageError(f"version {version} is not known; the newest are: {there}")
    return versions[version]
