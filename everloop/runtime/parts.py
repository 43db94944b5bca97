"""What a part is, what state it can be in, and how long to wait before it is started again: no process, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from everloop.runtime.settings import RuntimeSettings


class State(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"
    """For the parts that it needs."""
    STARTING = "starting"
    """The process runs and is not ready yet."""
    READY = "ready"
    """It answers."""
    RESTARTING = "restarting"
    """It died and is started again after a pause."""
    DONE = "done"
    """A step that has run to its end."""
    STOPPING = "stopping"
    """It was asked to end."""
    STOPPED = "stopped"
    """It has ended, as asked."""
    FAILED = "failed"
    """It was never ready, or its configuration is wrong: it is not started again."""


def always() -> bool:
    """A part without a readiness probe is ready as soon as it runs."""
    return True


def nothing() -> None:
    """A part that needs no preparation."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One operating-system process of the loop: how to start it, when it is ready, what it needs."""

    name: str
    """Its name on the screen, in runtime.json and of its log file."""
    argv: Sequence[str] | Callable[[], Sequence[str]]
    """The command line, or what makes it once the part is prepared."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to this process's environment."""
    after: tuple[str, ...] = ()
    """Parts that must be ready before this one starts, and stop after it."""
    outlived_by: tuple[str, ...] = ()
    """Parts that this one begins without, and that still stop after it."""
    prepare: Callable[[], None] = nothing
    """Called before every start: writes configuration, fetches what is missing."""
    ready: Callable[[], bool] = always
    """Whether it answers; called again and again until it says yes."""
    once: bool = False
    """A step rather than a server: ready when it has exited with status 0."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """The ports it listens on, by what they are for."""
    nice: int = 0
    """How far it stands back for others where they share a processor, 0 to 19."""
    ready_timeout_s: float = 120.0
    """How long it may take to become ready, seconds."""
    stop_timeout_s: float = 20.0
    """How long it may take to stop before it is killed, seconds."""

    def command(self) -> list[str]:
        """Return the command line."""
        return list(self.argv() if callable(self.argv) else self.argv)


@dataclass(frozen=True)
class Event:
    """A part has changed its state."""

    part: str
    state: State
    detail: str = ""
    """Why, in words."""


def pause_s(deaths: int, settings: RuntimeSettings) -> float:
    """Return the pause before start number `deaths` + 1 of a part that died `deaths` times in a row.

    >>> [pause_s(n, RuntimeSettings()) for n in (1, 2, 3, 20)]
    [0.25, 0.5, 1.0, 15.0]
    """
    return float(min(settings.backoff_first_s * 2 ** min(deaths - 1, 30), settings.backoff_most_s))


def waves(parts: Sequence[Part]) -> list[list[str]]:
    """Return names in the order of stopping: each wave holds the parts that nobody still running needs.

    >>> waves([Part(name="kafka", argv=[]), Part(name="join", argv=[], after=("kafka",))])
    [['join'], ['kafka']]
    """
    left = {part.name: part for part in parts}
    found: list[list[str]] = []
    while left:
        needed = {name for part in left.values() for name in (*part.after, *part.outlived_by)}
        wave = [name for name in left if name not in needed]
        if not wave:
            raise ValueError(f"these parts need each other in a circle: {', '.join(left)}")
        found.append(wave)
        for name in wave:
            del left[name]
    return found
