"""What to do next, given what shall be and what is. Pure: a view in, one action out.

Nothing is remembered between two decisions: whatever happened in between (a crash of the follower, a restart of the server,
another command), the next action follows from how things stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from feedback.versions import Control
from serving.follower.order import Position, Rule

LIVE, CANARY = "live", "canary"


class State(Enum):
    """How far a version is on the model server."""

    LOADING = auto()
    """Asked for, or being loaded."""
    AVAILABLE = auto()
    """It answers."""
    LEAVING = auto()
    """Being unloaded."""
    FAILED = auto()
    """It could not be loaded."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the models topic says of a version."""

    version: int
    line: str
    epoch: int
    sequence: int
    uri: str = ""
    passed: bool = False
    """Whether it passed the gate."""
    refused: bool = False
    """Refused or dropped, by the gate or by a command."""
    removed: bool = False
    """No longer in the store."""
    aside: bool = False
    """Made to be compared, not to become live by itself."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One version on the model server."""

    state: State
    at: Position = Position(0, 0)
    """How far it has come."""
    caught_up: bool = False
    """Whether it has all that the log has for it."""
    stuck: str = ""
    """Why it can't go on: a gap, a higher epoch. Empty: it can."""
    tainted: bool = False
    """Whether a checksum has failed: it must be loaded anew."""
    since: float = 0.0
    """When it became available."""
    error: str = ""
    """Why it could not be loaded."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything that a decision rests on."""

    now: float
    """Any clock that does not go back, s."""
    control: Control | None = None
    known: Mapping[int, Known] = field(default_factory=dict)
    local: frozenset[int] = frozenset()
    """Versions on the server's disk, whole and verified."""
    fetching: frozenset[int] = frozenset()
    """Being downloaded, or waiting for another try."""
    unusable: Mapping[int, str] = field(default_factory=dict)
    """What this follower has refused, and why."""
    loaded: Mapping[int, Loaded] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    """As the server has them."""
    left: Mapping[int, float] = field(default_factory=dict)
    """When a version lost its label."""
    sent: Configure | None = None
    """The configuration that the server has got from this process; None: unknown."""

    @property
    def floor(self) -> int:
        """The lowest epoch that may be served."""
        return self.control.epoch if self.control else 0


@dataclass(frozen=True)
class Fetch:
    """Download and verify a version."""

    version: int


@dataclass(frozen=True)
class Configure:
    """Give the server this configuration: all of it, it replaces the one before."""

    versions: tuple[int, ...]
    labels: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Promote:
    """Verify a loaded version and move a label to it."""

    version: int
    label: str


@dataclass(frozen=True)
class Refuse:
    """Never try this version again."""

    version: int
    reason: str


@dataclass(frozen=True)
class Forget:
    """Delete a version from the server's disk."""

    version: int


Action = Fetch | Configure | Promote | Refuse | Forget


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The settings that decisions rest on."""

    first_live_s: float
    drain_s: float
    keep: int


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What shall be live, and what shall be the canary; 0: nothing."""

    live: int = 0
    canary: int = 0


def usable(view: View, version: int, *, named: bool = False) -> bool:
    """Say whether readers may be given a version; `named` ones need not have passed the gate."""
    known = view.known.get(version)
    if known is None or version in view.unusable or known.refused or known.epoch < view.floor:
        return False
    return (known.passed or named) and _can_load(view, known)


def _can_load(view: View, known: Known) -> bool:
    here = known.version in view.local or known.version in view.loaded
    return here or (bool(known.uri) and not known.removed)


def targets(view: View) -> Targets:
    """Say what shall be live and what shall be the canary."""
    live = _live(view)
    canary = view.control.canary.version if view.control and view.control.canary else 0
    if canary == live or not usable(view, canary, named=True) or _tainted(view, canary):
        canary = 0
    return Targets(live=live, canary=canary)


def _live(view: View) -> int:
    control, current = view.control, view.labels.get(LIVE, 0)
    good = current if usable(view, current, named=True) and not _tainted(view, current) else 0
    if control and control.pinned and control.version:
        return control.version if usable(view, control.version, named=True) else current
    found = [version for version in view.known if usable(view, version) and _eligible(view, version, current)]
    found = [version for version in found if not _tainted(view, version)]
    if control and control.paused:
        return good or max(found, default=0) or _stand_in(view) or current
    newest = _unhurried(view, found, current)
    # Never back to an older base of the line while live is good: it would be the same model, loaded for nothing.
    return max(newest, good) or current


def _eligible(view: View, version: int, current: int) -> bool:
    """Say whether a version may become live by itself: of a line that is not set aside or on trial."""
    known, control = view.known[version], view.control
    if control and control.version:
        named = view.known.get(control.version)
        return named is not None and known.line == named.line and version >= control.version
    if known.aside:
        return False
    trial = view.known.get(control.canary.version) if control and control.canary else None
    live = view.known.get(current)
    return trial is None or known.line != trial.line or (live is not None and live.line == trial.line)


def _unhurried(view: View, found: list[int], current: int) -> int:
    """The newest; but what is being loaded already is finished first, or a fast exporter would never let one go live."""
    loading = [v for v in found if v > current and v in view.loaded and view.loaded[v].state is not State.FAILED]
    return max(loading, default=0) or max(found, default=0)


def _stand_in(view: View) -> int:
    """After a rollback, until the trainer has made the new base: the old one, as it was exported, if it can be had so."""
    version = view.control.version if view.control else 0
    known = view.known.get(version)
    if known is None or known.refused or version in view.unusable or not _can_load(view, known):
        return 0
    here = view.loaded.get(version)
    return version if here is None or here.at in (Position(0, 0), Position(known.epoch, known.sequence)) else 0


def _tainted(view: View, version: int) -> bool:
    return version in view.loaded and view.loaded[version].tainted


def rule(view: View, version: int) -> Rule:
    """Say which deltas a loaded version may be given."""
    control, known = view.control, view.known.get(version)
    if control is None or known is None:
        return Rule(floor=view.floor)
    live = view.known.get(view.labels.get(LIVE, 0))
    on_trial = control.canary is not None and control.canary.version == version
    frozen = on_trial and live is not None and live.version != version and live.line == known.line
    return Rule(
        floor=control.epoch,
        frozen=frozen or known.epoch < control.epoch,
        until=control.time if control.paused else 0,
    )


def decide(view: View, limits: Limits) -> Action | None:
    """Choose the next action, or None where all is as it shall be."""
    goal = targets(view)
    return (
        _refusal(view, goal)
        or _download(view, goal)
        or _promotion(view, goal, limits)
        or _configuration(view, goal, limits)
        or _cleaning(view, goal, limits)
    )


def _refusal(view: View, goal: Targets) -> Action | None:
    for version, loaded in view.loaded.items():
        if version in view.unusable:
            continue
        if loaded.state is State.FAILED and (view.sent is None or version in view.sent.versions):
            return Refuse(version, f"could not be loaded: {loaded.error}")
        if loaded.stuck and version == goal.live and _behind(view, version):
            return Refuse(version, f"can't catch up: {loaded.stuck}")
    return None


def _behind(view: View, version: int) -> bool:
    """Say whether live, of the same line, has come further."""
    live = view.labels.get(LIVE, 0)
    known, other = view.known.get(version), view.known.get(live)
    same = known is not None and other is not None and known.line == other.line
    return same and live in view.loaded and view.loaded[version].at < view.loaded[live].at


def _download(view: View, goal: Targets) -> Action | None:
    for version in (goal.live, goal.canary):
        if version and version not in view.local and version not in view.fetching and version not in view.loaded:
            return Fetch(version)
    return None


def _promotion(view: View, goal: Targets, limits: Limits) -> Action | None:
    for label, version in ((LIVE, goal.live), (CANARY, goal.canary)):
        if version and view.labels.get(label) != version and _presentable(view, version, label, limits):
            return Promote(version, label)
    return None


def _presentable(view: View, version: int, label: str, limits: Limits) -> bool:
    loaded = view.loaded.get(version)
    if loaded is None or loaded.state is not State.AVAILABLE or loaded.tainted or view.sent is None:
        return False
    if loaded.caught_up or loaded.stuck:
        return True
    nothing = label == LIVE and not view.labels.get(LIVE)
    return nothing and view.now - loaded.since >= limits.first_live_s


def _configuration(view: View, goal: Targets, limits: Limits) -> Action | None:
    versions = wanted(view, goal, limits)
    labels = {label: version for label, version in view.labels.items() if version in versions}
    if not goal.canary:
        labels.pop(CANARY, None)
    action = Configure(versions, tuple(sorted(labels.items())))
    return action if action != view.sent and (versions or view.loaded) else None


def wanted(view: View, goal: Targets, limits: Limits) -> tuple[int, ...]:
    """The versions that shall be loaded."""
    live = view.labels.get(LIVE, 0)
    keep = {version for version in (goal.live, goal.canary) if version in view.local}
    keep |= {live, view.labels.get(CANARY, 0) if goal.canary else 0}
    keep |= {
        version
        for version, since in view.left.items()
        if view.now - since < limits.drain_s and version in view.loaded and not _tainted(view, version)
    }
    if _tainted(view, goal.live):
        # Nothing else can stand in while it is loaded anew.
        keep.discard(goal.live)
    gone = {v for v, loaded in view.loaded.items() if loaded.state is State.FAILED} | {0}
    return tuple(sorted(keep - gone))


def _cleaning(view: View, goal: Targets, limits: Limits) -> Action | None:
    used = {goal.live, goal.canary, *view.labels.values(), *view.loaded, *(view.sent.versions if view.sent else ())}
    spare = sorted(view.local - used, reverse=True)
    refused = [version for version in spare if version in view.unusable]
    surplus = [version for version in spare if version not in refused][limits.keep :]
    old = refused + surplus
    return Forget(old[-1]) if old and view.sent is not None else None
