"""The settings of the join as the machine uses them: microseconds, and from which prediction on they hold.

A slate lives and dies under the rules it was opened with. When the configuration changes, what is open keeps the old rules; an
epoch says from which offset of the predictions topic on the new ones hold, so that the state read again comes out the same.
"""

from __future__ import annotations

from msgspec import Struct

from feedback.clock import to_us
from streams.labels import Rule
from streams.settings import JoinSettings, LabelSettings


class Epoch(Struct, frozen=True):
    """Rules, and the first prediction that they hold for."""

    number: int
    """0, 1, 2 …"""
    offset: int
    """Offset of the predictions topic."""
    outcomes: int
    """Offset of the outcomes topic, for what is asked of an outcome before its slate is known."""
    join: JoinSettings
    labels: LabelSettings


class Rules:
    """One epoch's rules, ready for use."""

    def __init__(self, epoch: Epoch) -> None:
        join = epoch.join
        self.number = epoch.number
        self.frames: dict[int, tuple[bytes, bytes]] = {}
        """Parts of samples, by size of the slate (see `emit`)."""
        self.window = to_us(join.window_s)
        self.lateness = to_us(join.lateness_s)
        self.hold = to_us(join.hold_s)
        self.skew = to_us(join.skew_s)
        self.early_wait = to_us(join.early_wait_s)
        self.remember = to_us(join.remember_s)
        self.future = to_us(join.future_s)
        self.at_once = join.positives == "at_once"
        self.label = Rule(epoch.labels)
        self.policy = f"{self.label.name} hold({join.hold_s:g}) window({join.window_s:g}) positives({join.positives})"
        self.viewed_only = self.label.viewed_only
        self.whole = self.hold == 0 and not self.viewed_only
        """Whether a slate goes out whole the moment it opens."""


class RuleBook:
    """All rules that some kept slate was opened under, and the newest."""

    def __init__(self, epochs: list[Epoch]) -> None:
        self.epochs = epochs
        self._rules = {epoch.number: Rules(epoch) for epoch in epochs}
        self._widest()

    def __getitem__(self, number: int) -> Rules:
        return self._rules[number]

    def at(self, offset: int) -> Rules:
        """The rules for the prediction at that offset."""
        if offset >= self._since:
            return self._newest
        for epoch in reversed(self.epochs):
            if epoch.offset <= offset:
                return self._rules[epoch.number]
        return self._rules[self.epochs[0].number]

    def future(self, prediction: bool, offset: int) -> int:
        """How far ahead of Kafka's time the event at an offset may be, µs."""
        if len(self.epochs) == 1:
            return self._newest.future
        for epoch in reversed(self.epochs):
            if (epoch.offset if prediction else epoch.outcomes) <= offset:
                return self._rules[epoch.number].future
        return self._rules[self.epochs[0].number].future

    def adopt(self, join: JoinSettings, labels: LabelSettings, offset: int, outcomes: int) -> None:
        """From the prediction at `offset` on let these rules hold; nothing changes if they do already."""
        last = self.epochs[-1]
        if (last.join, last.labels) == (join, labels):
            return
        epoch = Epoch(last.number + 1, offset, outcomes, join, labels)
        self.epochs.append(epoch)
        self._rules[epoch.number] = Rules(epoch)
        self._widest()

    def forget(self, offset: int, outcomes: int) -> None:
        """Forget the rules that only events before those offsets were read under."""
        while len(self.epochs) > 1 and self.epochs[1].offset <= offset and self.epochs[1].outcomes <= outcomes:
            del self._rules[self.epochs.pop(0).number]
            self._widest()

    def _widest(self) -> None:
        rules = self._rules.values()
        self._newest, self._since = self._rules[self.epochs[-1].number], self.epochs[-1].offset
        self.lateness = max(each.lateness for each in rules)
        self.early_wait = max(each.early_wait for each in rules)
        self.kept = max(each.window + each.remember for each in rules)
