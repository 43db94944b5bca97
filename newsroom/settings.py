"""What can be set of the world. The defaults are the fit to a real news log (docs/newsroom.md has it, with its errors)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from feedback.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ArticleSettings:
    """Articles: how many, how popular, for how long."""

    per_day: float = 1_400.0
    """Published on an average day; most by day. Default 1,400."""
    spread: float = 2.2
    """Standard deviation of the log of an article's weight: 2.2 gives the ten best a third of all reading. Default 2.2."""
    rise_s: float = 5_400.0
    """How long an article takes to its peak, s. Default 5,400."""
    life_s: float = 14_400.0
    """Median over articles of the time in which popularity decays by a factor e, s. Default 14,400."""
    life_spread: float = 0.7
    """Standard deviation of the log of that time. Default 0.7."""
    placement: float = 0.45
    """Standard deviation of what an editor's placement does to the log of popularity. Default 0.45."""
    placement_s: float = 3_000.0
    """How long a placement lasts, s. Default 3,000."""
    breaking_per_day: float = 4.0
    """Breaking news: articles that come at once, above all others. Default 4."""
    breaking: float = 3.5
    """What breaking adds to the log of an article's weight. Default 3.5."""


@dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """Readers: how often they come, who they are."""

    visits_per_day: float = 270_331.0
    """Articles read on an average day; each is a request for a slate too. Default 270,331."""
    fresh: float = 0.68
    """Share of sessions whose reader was never here before. Default 0.68."""
    pages: float = 2.8
    """Articles read in a session, on average (geometric). Default 2.8."""
    pause_s: float = 150.0
    """Mean time between two of them, s. Default 150."""


@dataclass(frozen=True, kw_only=True)
class TasteSettings:
    """What draws whom to an article besides its popularity: standard deviations in logits."""

    previous: float = 2.9
    """By the article read before (links, related stories). Default 2.9."""
    referrer: float = 1.75
    """By where the reader comes from. Default 1.75."""
    region: float = 0.6
    """By the reader's region. Default 0.6."""
    system: float = 0.45
    """By the reader's operating system. Default 0.45."""
    interest: float = 0.4
    """By the reader's own interest in the article's section. Default 0.4."""
    moving: float = 0.45
    """Share of the variance of the first four that changes while an article lives: links and places are moved. Default 0.45."""
    moving_s: float = 16_000.0
    """How long one such state lasts, s. Default 16,000."""
    interest_s: float = 43_200.0
    """How long a reader's interests stay, s. Default 43,200."""
    sections: int = 12
    """Sections of the newspaper. Default 12."""
    headlines: int = 16
    """Headlines that a reader who looks for the next article notices, by popularity. Default 16."""


@dataclass(frozen=True, kw_only=True)
class SlateSettings:
    """Slates of recommendations beside the article that is being read, and what becomes of them."""

    positions: int = 5
    """Positions of a slate. Default 5."""
    candidates: int = 30
    """Articles to choose from, a part of the pool that changes with every request. Default 30."""
    pool: int = 127
    """Articles that retrieval offers at a time, at most. Default 127."""
    pool_s: float = 600.0
    """For how long its choice stays (but for articles that come and go), s. Default 600."""
    temper: float = 0.5
    """They are drawn by popularity to this power. Default 0.5."""
    base: float = -2.2
    """Logit of a click at the top on an article of average popularity and taste. Default −2.2."""
    popularity: float = 0.25
    """What one unit of log popularity, relative to the candidates of that minute, adds to the logit. Default 0.25."""
    taste: float = 0.7
    """How much of the taste counts in a slate, where less is chosen from. Default 0.7."""
    examination: float = 0.35
    """Position k is looked at with probability (k + 1) to the power of minus this. Default 0.35."""
    fatigue: float = 0.0
    """Each article of the same section higher up takes this share of a click's probability: above 0, slots are not additive. Default 0."""


@dataclass(frozen=True, kw_only=True)
class ArrivalSettings:
    """Delays and faults of what arrives."""

    delay_s: float = 20.0
    """Mean time from impression to click, s. Default 20."""
    delay_spread: float = 1.0
    """Standard deviation of the log of the delay (lognormal); 0: exponential instead. Default 1."""
    dwell_s: float = 60.0
    """Median time of reading after a click, s (lognormal, sd of the log 1). Default 60."""
    duplicate: float = 0.0
    """Share of outcomes that arrive twice. Default 0."""
    late: float = 0.0
    """Share of outcomes that are held back on the way. Default 0."""
    late_s: float = 300.0
    """Mean time for which they are, s. Default 300."""
    skew_s: float = 0.0
    """Standard deviation of how wrong a reader's clock is, s. Default 0."""


@dataclass(frozen=True, kw_only=True)
class WorldSettings:
    """Everything."""

    days: float = 2.0
    """Length of the world, days. Default 2, as long as the log it is fitted to."""
    articles: ArticleSettings = field(default_factory=ArticleSettings)
    """Articles."""
    readers: ReaderSettings = field(default_factory=ReaderSettings)
    """Readers."""
    taste: TasteSettings = field(default_factory=TasteSettings)
    """Taste."""
    slates: SlateSettings = field(default_factory=SlateSettings)
    """Slates."""
    arrival: ArrivalSettings = field(default_factory=ArrivalSettings)
    """Arrival."""

    def check(self) -> None:
        """Raise UsageError where a value is impossible."""
        _above("days", self.days)
        _all_above("articles", self.articles, ("placement", "breaking", "breaking_per_day", "spread", "life_spread"))
        _all_above("readers", self.readers, ("fresh",))
        _share("readers.fresh", self.readers.fresh)
        _share("taste.moving", self.taste.moving)
        _above("slates.pool_s", self.slates.pool_s)
        _share("slates.fatigue", self.slates.fatigue)
        _share("arrival.duplicate", self.arrival.duplicate)
        _share("arrival.late", self.arrival.late)
        if self.readers.pages < 1:
            raise UsageError(f"readers.pages = {self.readers.pages:g}: 1 at least")
        if not 1 <= self.slates.positions <= self.slates.candidates:
            raise UsageError(
                f"slates.positions = {self.slates.positions}: from 1 to candidates, {self.slates.candidates}"
            )
        if self.taste.sections < 1 or self.taste.headlines < 1:
            raise UsageError("taste.sections, taste.headlines: 1 at least")


def _above(name: str, value: float) -> None:
    if not value > 0:
        raise UsageError(f"{name} = {value:g}: above 0")


def _all_above(group: str, settings: Any, but: tuple[str, ...]) -> None:
    for each in fields(settings):
        value = getattr(settings, each.name)
        if each.name in but:
            if value < 0:
                raise UsageError(f"{group}.{each.name} = {value:g}: not below 0")
        else:
            _above(f"{group}.{each.name}", value)


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} = {value:g}: from 0 to 1")
