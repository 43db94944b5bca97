"""The availability-preserving transition: what to load or unload next, so that a model never stops serving.

One decision per tick over all models, one action at a time, unloading before loading. A version that shall go stays
until one that shall stay is ready, unless nothing shall stay or more than one that shall go is ready.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

TICK_S = 0.1
"""Seconds between two decisions."""


class Phase(Enum):
    """How far a version is inside the server (its published state is in status.py)."""

    NEW = auto()
    LOADING = auto()
    READY = auto()
    UNLOADING = auto()
    FAILED = auto()
    DONE = auto()


@dataclass(frozen=True, kw_only=True)
class View:
    """One version as the decision sees it."""

    version: int
    phase: Phase
    aspired: bool


@dataclass(frozen=True, kw_only=True)
class Action:
    """Load or unload one version of one model."""

    model: str
    version: int
    load: bool


def next_action(model: str, views: Sequence[View]) -> Action | None:
    """The next action for one model, or None."""
    wanted = [view for view in views if view.aspired]
    leaving = [view.version for view in views if not view.aspired and view.phase is Phase.READY]
    safe = not wanted or any(view.phase is Phase.READY for view in wanted) or len(leaving) > 1
    if leaving and safe:
        return Action(model=model, version=min(leaving), load=False)
    new = [view.version for view in wanted if view.phase is Phase.NEW]
    return Action(model=model, version=max(new), load=True) if new else None


def choose(models: Mapping[str, Sequence[View]]) -> Action | None:
    """The next action over all models: an unload if there is one, for it frees memory; else a load."""
    actions = [action for model in sorted(models) if (action := next_action(model, models[model])) is not None]
    return min(actions, key=lambda action: action.load, default=None)


def forgettable(view: View) -> bool:
    """Whether a version need not be kept in the books: nobody wants it and nothing of it is in memory.

    A failed version that is still wanted stays, which is why it is not tried again while its directory remains.
    """
    return not view.aspired and view.phase in (Phase.NEW, Phase.FAILED, Phase.DONE)
