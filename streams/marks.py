"""Marks: what one topic's clock read at which offset, sparsely, so that the state can be read again from the inputs."""

from __future__ import annotations

from msgspec import Struct


class Mark(Struct, frozen=True, gc=False):
    """Before the record at `offset` the greatest event time read from the topic was `clock`."""

    offset: int = 0
    """An offset of the topic."""
    clock: int = 0
    """Event time, µs; 0: nothing had been read."""


class Marks:
    """The marks of one topic of one partition, oldest first; one about every `step` microseconds of event time."""

    def __init__(self, first: Mark, step: int) -> None:
        self._marks = [first]
        self._step = step

    def note(self, offset: int, clock: int) -> None:
        """Say that the clock read `clock` before `offset`; kept if the last mark is `step` ago."""
        if clock >= self._marks[-1].clock + self._step:
            self._marks.append(Mark(offset, clock))

    def before(self, time: int) -> Mark:
        """The newest mark whose clock is below `time`: no record before it has an event time of `time` or later. Forgets those
        older than it, so `time` must not go back. Where none is, the oldest mark."""
        marks = self._marks
        keep = 0
        for index, mark in enumerate(marks):
            if mark.clock >= time:
                break
            keep = index
        if keep:
            del marks[:keep]
        return marks[0]

    def at(self, offset: int) -> Mark:
        """The newest mark that does not lie behind `offset`; where none is, the oldest mark."""
        found = self._marks[0]
        for mark in reversed(self._marks):
            if mark.offset <= offset:
                return mark
        return found

    def below(self, time: int) -> Mark:
        """As `before`, but forgets nothing."""
        found = self._marks[0]
        for mark in self._marks:
            if mark.clock >= time:
                break
            found = mark
        return found
