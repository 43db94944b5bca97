"""What came of a run of the live newsroom, beside what the truth would have allowed."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from newsroom.arrival import CLICK, Arrivals
from newsroom.requests import Reaction

LAST: Final = 100_000
"""Times that are kept for quantiles: a run may be long."""
LATE_S: Final = 1.0
"""A request that is asked later than this after its time counts as late."""


@dataclass
class Shown:
    """What some slates came to."""

    slates: int = 0
    impressions: int = 0
    clicks: int = 0
    truth: float = 0.0
    """Expected clicks of what was shown."""
    best: float = 0.0
    """Of the best slates that there were."""
    random: float = 0.0
    """Of slates at random."""

    def add(self, reaction: Reaction) -> None:
        """Count one slate."""
        self.slates += 1
        self.impressions += reaction.slate.size
        self.clicks += int(reaction.clicked.sum())
        self.truth += reaction.truth
        self.best += reaction.best
        self.random += reaction.random

    def summary(self) -> dict[str, float]:
        """Counts, and rates per impression; `regret`: what the best slates would have brought more."""
        shown = max(self.impressions, 1)
        return {
            "slates": self.slates,
            "impressions": self.impressions,
            "clicks": self.clicks,
            "click_rate": self.clicks / shown,
            "true_click_rate": self.truth / shown,
            "oracle_click_rate": self.best / shown,
            "random_click_rate": self.random / shown,
            "regret": (self.best - self.truth) / shown,
        }


_Times = partial(deque[float], maxlen=LAST)


@dataclass
class Tally:
    """Counts, sums and times of one run."""

    asked: int = 0
    """Requests that were begun."""
    wanted_per_s: float = 0.0
    """Requests in a second, by the world's clock at the speed asked for."""
    elapsed_s: float = 0.0
    """How long requests were asked."""
    late: int = 0
    """Requests that were asked more than LATE_S after their time."""
    behind_s: float = 0.0
    """How far behind its clock a request was at most."""
    errors: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by why."""
    fallbacks: Counter[str] = field(default_factory=Counter)
    """Answers that did not come from the model, by why."""
    unlogged: int = 0
    """Answers that the loop can't learn from: the gateway's spool was full."""
    shown: Shown = field(default_factory=Shown)
    by_policy: defaultdict[str, Shown] = field(default_factory=lambda: defaultdict(Shown))
    by_version: defaultdict[str, Shown] = field(default_factory=lambda: defaultdict(Shown))
    """By the version of the model that scored; `none`: fallbacks."""
    front: Shown = field(default_factory=Shown)
    """Headlines of the front page that were reported."""
    sent: Counter[str] = field(default_factory=Counter)
    """Outcomes handed to Kafka's client, by kind, repeats among them."""
    confirmed: int = 0
    """Of these, how many Kafka has confirmed."""
    kafka_error: str = ""
    """Why the last of the others was not."""
    unsent: int = 0
    """Outcomes whose time had not come when the run ended."""
    outcomes_behind_s: float = 0.0
    """How much later than its time an outcome was sent at most."""
    answer_s: deque[float] = field(default_factory=_Times)
    """From request to answer, tries included."""
    click_s: deque[float] = field(default_factory=_Times)
    """From answer to click, s of the world."""
    held_s: deque[float] = field(default_factory=_Times)
    """From outcome to its being sent, s of the world, repeats among them: 0 but where late or twice."""

    def begun(self, behind_s: float) -> None:
        """Count a request, asked so long after its time."""
        self.asked += 1
        self.late += behind_s > LATE_S
        self.behind_s = max(self.behind_s, behind_s)

    def answered(self, reaction: Reaction, *, policy: str, version: int, fallback: str, logged: bool) -> None:
        """Count a slate, and under what it was chosen and scored."""
        if fallback:
            self.fallbacks[fallback] += 1
        self.unlogged += not logged
        for each in (self.shown, self.by_policy[policy], self.by_version["none" if fallback else str(version)]):
            each.add(reaction)

    def coming(self, t: float, arrivals: Arrivals) -> None:
        """Note the delays of what comes of a slate shown at a time of the world."""
        first = np.unique(arrivals.event, return_index=True)[1]
        clicks = first[arrivals.kind[first] == CLICK]
        self.click_s.extend((arrivals.happened[clicks] - t).tolist())
        self.held_s.extend((arrivals.arrives - arrivals.happened).tolist())

    @property
    def unconfirmed(self) -> int:
        """Outcomes that Kafka has not confirmed."""
        return self.sent.total() - self.confirmed

    @property
    def kept_pace(self) -> bool:
        """Whether no request was late."""
        return not self.late

    def summary(self) -> dict[str, Any]:
        """All of it, as one JSON object; rates are per impression."""
        return {
            "requests": self.asked,
            "answers": self.shown.slates,
            "errors": dict(self.errors),
            "fallbacks": dict(self.fallbacks),
            "unlogged": self.unlogged,
            **{name: value for name, value in self.shown.summary().items() if name != "slates"},
            "by_policy": {name: each.summary() for name, each in sorted(self.by_policy.items())},
            "by_version": {name: self.by_version[name].summary() for name in sorted(self.by_version, key=_number)},
            "front_page": {
                "slates": self.front.slates,
                "impressions": self.front.impressions,
                "clicks": self.front.clicks,
            },
            "outcomes": dict(self.sent),
            "outcomes_confirmed": self.confirmed,
            "outcomes_unconfirmed": self.unconfirmed,
            "kafka_error": self.kafka_error,
            "outcomes_unsent": self.unsent,
            "elapsed_s": self.elapsed_s,
            "wanted_per_s": self.wanted_per_s,
            "asked_per_s": self.asked / self.elapsed_s if self.elapsed_s else 0.0,
            "kept_pace": self.kept_pace,
            "late_requests": self.late,
            "behind_s": self.behind_s,
            "outcomes_behind_s": self.outcomes_behind_s,
            "delays": {
                "answer_s": quantiles(self.answer_s),
                "click_s": quantiles(self.click_s),
                "held_s": quantiles(self.held_s),
            },
        }


def quantiles(times: Iterable[float]) -> dict[str, float]:
    """Mean, median, 99th percentile and greatest; nothing of nothing."""
    found = np.fromiter(times, np.float64)
    if not len(found):
        return {}
    middle, high = np.quantile(found, [0.5, 0.99]).tolist()
    return {"mean": float(found.mean()), "p50": middle, "p99": high, "max": float(found.max())}


def _number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (-1, name)
