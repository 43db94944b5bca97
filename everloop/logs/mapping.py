"""The mapping file: which column of a log is time, reader, item, slate, outcome and feature.

A mapping describes the shape of a log, never its content; one file fits every log with those columns. `docs/replay.md`
explains the file with an example.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from everloop.config.convert import build
from everloop.logs.conditions import parse
from feedback.clock import to_us
from feedback.errors import ConfigError
from feedback.features import Feature, Source
from feedback.settings import Count, NonNegative, Positive

FeatureName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Kind = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
LogName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]


@dataclass(frozen=True, kw_only=True)
class TimeColumn:
    """When a row happened."""

    column: str
    """The column: a number, or Arrow's timestamp (then `unit` and `origin` don't matter)."""
    unit: Literal["s", "ms", "us", "ns"] = "s"
    """What the number counts. Default seconds."""
    origin: str = "1970-01-01T00:00:00Z"
    """The moment at which it is 0, ISO 8601. Default the Unix epoch."""

    def origin_us(self) -> int:
        """The moment at which the number is 0, µs since the Unix epoch.

        Raises:
            ConfigError: `origin` is no ISO 8601 moment.
        """
        try:
            moment = datetime.fromisoformat(self.origin)
        except ValueError:
            allowed = "a moment in ISO 8601, e.g. 2017-10-02T00:00:00Z"
            raise ConfigError(key="time.origin", value=self.origin, allowed=allowed) from None
        return to_us((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


@dataclass(frozen=True, kw_only=True)
class SlateRule:
    """Which rows form a slate: those with one value of `column`, or those of one reader that follow each other closely."""

    column: str = ""
    """Names the slate a row belongs to. Its rows share a reader."""
    gap_s: NonNegative = 0.0
    """Without `column`: a row of a reader at most this long after the reader's row before it is on the same slate, s."""
    most: Annotated[int, Meta(ge=1, le=1000)] = 100
    """A slate with more rows than this is cut. Default 100."""


@dataclass(frozen=True, kw_only=True)
class OutcomeRule:
    """Which rows say that the reader did something."""

    when: str
    """COLUMN OPERATOR VALUE, e.g. `rating >= 4`; operators are == != < <= > >=."""
    kind: Kind = "click"
    """What the reader did. Default `click`."""
    value: str = ""
    """A numeric column with its size (seconds of dwell, money). Default: 1."""
    time: str = ""
    """A column with its time, in the unit of `[time]`. Default: the row's own time plus the delay."""
    delay: str = ""
    """A column with the seconds between the row's time and the outcome."""
    delay_s: NonNegative = 0.0
    """The same for every row, s. Default 0."""


@dataclass(frozen=True, kw_only=True)
class FeatureRule:
    """One feature of the model, and the column it is in."""

    name: FeatureName
    """The feature's name."""
    of: Literal["context", "candidate", "hour", "weekday", "history"] = "context"
    """`context`: one value per slate (that of its first row); `candidate`: one per row; `hour`, `weekday`: of the slate's
    time, no column; `history`: what the reader acted on before, no column. Default `context`."""
    kind: Literal["string", "strings", "number"] = "string"
    """As in the feature specification. Default `string`."""
    column: str = ""
    """The column. Default: the feature's name."""
    side: str = ""
    """The side table that has the column. Default: the log itself."""
    split: str = ""
    """With kind `strings`: cut the text at this."""
    flags: tuple[str, ...] = ()
    """With kind `strings`: columns of 0 and 1; the value is the names of those that are not 0."""
    width: NonNegative = 0.0
    """With kind `string`, a numeric column: the value is the number's bucket of this width. Default: the number as it is."""
    key: str = "item"
    """Of `history`: what is remembered of what the reader acted on: `item`, or the name of a candidate feature. Default `item`."""
    by: str = "user"
    """Of `history`: whose it is: `user`, or the name of a context feature. Default `user`."""
    outcome: str = ""
    """Of `history`: the kind of outcome that is remembered. Default: the mapping's `positive`."""
    last: Annotated[int, Meta(ge=1, le=1000)] = 10
    """Of `history`: so many different values at most, the newest. Default 10."""
    known_s: NonNegative = 0.0
    """Of `history`: how long after it happened an outcome is known where slates are served, s of the log's time. Default 0."""

    @property
    def derived(self) -> bool:
        """Whether it comes from the slate's time or the slates before it, not from a column."""
        return self.of in ("hour", "weekday", "history")

    @property
    def source(self) -> Source:
        """Where the model finds it in an event: a history is asked with, as part of the context."""
        return "context" if self.of == "history" else self.of

    def columns(self) -> tuple[str, ...]:
        """The columns it is made of."""
        return () if self.derived else self.flags or (self.column or self.name,)


@dataclass(frozen=True, kw_only=True)
class SideTable:
    """A second file: one row per value of a column of the log (articles, readers)."""

    file: str
    """Its path, relative to the log's folder."""
    key: str
    """Its column that names the row."""
    on: str
    """The log's column with that name."""


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """All that a mapping file says."""

    name: LogName
    """Names the log: the beginning of its request ids."""
    owner: str = ""
    """Whose the log is."""
    terms: str = ""
    """On what terms it may be used; shown before it is."""
    file: str = ""
    """Where the log is a folder: its main file."""
    time: TimeColumn
    """When a row happened."""
    user: str
    """The column with the reader."""
    item: str
    """The column with the item."""
    slate: SlateRule
    """Which rows form a slate."""
    outcome: tuple[OutcomeRule, ...]
    """Which rows say that the reader did something."""
    positive: Kind = "click"
    """The kind of outcome that makes a label 1. Default `click`."""
    window_s: Positive = 3600.0
    """Attribution window: outcomes later than this after their slate don't count, s of the log's time. Default an hour."""
    lateness_s: NonNegative = 60.0
    """How far events may come out of order, s of the log's time. Default 60."""
    sorted: bool = False
    """Whether rows of a slate are adjacent and in the order of time; such a log is read in chunks, whatever its size."""
    side: dict[str, SideTable] = field(default_factory=dict)
    """Side tables, by the name that features use."""
    feature: tuple[FeatureRule, ...] = ()
    """The model's features; the reader and the item are always among them."""
    crosses: tuple[str, ...] = ()
    """Crosses for the model of this log, `a*b`: what the demo and `train` begin with. Default none."""
    loop: dict[str, Any] = field(default_factory=dict)
    """Settings that a loop over this log begins with where its shape asks for others than the defaults, by dotted key as in
    everloop.toml, e.g. "trainer.gate.user_share" = 1.0."""
    batch: Count = 65_536
    """Rows read at a time. Default 65,536."""
    path: str = ""
    """Where the mapping was read from; set by `load`."""

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if bool(self.slate.column) == bool(self.slate.gap_s):
            raise ConfigError(key="slate", value=self.slate.column, allowed="either column or gap_s above 0")
        if self.sorted and not self.slate.column:
            raise ConfigError(key="sorted", value=True, allowed="only with slate.column: slates by gap_s need all rows")
        if not self.outcome:
            raise ConfigError(key="outcome", value=[], allowed="at least one [[outcome]]")
        kinds = [rule.kind for rule in self.outcome]
        if self.positive not in kinds:
            raise ConfigError(key="positive", value=self.positive, allowed=f"a kind of an [[outcome]]: {kinds}")
        self.time.origin_us()
        for at, rule in enumerate(self.outcome):
            self._check_outcome(at, rule)
        for at, each in enumerate(self.feature):
            self._check_feature(at, each)
        self._check_crosses()

    def features(self) -> tuple[Feature, ...]:
        """The feature specification: reader, item, then the features in the file's order."""
        ids = (Feature(name="user", source="user"), Feature(name="item", source="item"))
        return ids + tuple(Feature(name=rule.name, source=rule.source, kind=rule.kind) for rule in self.feature)

    def columns(self) -> Iterator[tuple[str, str]]:
        """Every column of the log itself that is used, with the key that names it."""
        yield "time.column", self.time.column
        yield "user", self.user
        yield "item", self.item
        if self.slate.column:
            yield "slate.column", self.slate.column
        for at, rule in enumerate(self.outcome):
            yield f"outcome.{at}.when", parse(rule.when).column
            for key in ("value", "time", "delay"):
                if column := getattr(rule, key):
                    yield f"outcome.{at}.{key}", column
        for name, side in self.side.items():
            yield f"side.{name}.on", side.on
        yield from self._feature_columns("")

    def side_columns(self, name: str) -> Iterator[tuple[str, str]]:
        """Every column of a side table that is used, with the key that names it."""
        yield f"side.{name}.key", self.side[name].key
        yield from self._feature_columns(name)

    def _feature_columns(self, side: str) -> Iterator[tuple[str, str]]:
        for at, rule in enumerate(self.feature):
            if rule.side == side:
                yield from ((f"feature.{at}.column", column) for column in rule.columns())

    def _check_outcome(self, at: int, rule: OutcomeRule) -> None:
        try:
            parse(rule.when)
        except ValueError as error:
            raise ConfigError(key=f"outcome.{at}.when", value=rule.when, allowed=str(error)) from None
        if sum(map(bool, (rule.time, rule.delay, rule.delay_s))) > 1:
            raise ConfigError(key=f"outcome.{at}", value=rule.kind, allowed="only one of time, delay and delay_s")

    def _check_feature(self, at: int, rule: FeatureRule) -> None:
        key = f"feature.{at}"
        if rule.name in ("user", "item") or rule.name in [each.name for each in self.feature[:at]]:
            raise ConfigError(key=f"{key}.name", value=rule.name, allowed="a name of its own, and not user or item")
        if rule.side and rule.side not in self.side:
            raise ConfigError(key=f"{key}.side", value=rule.side, allowed=f"one of the side tables: {list(self.side)}")
        if rule.of == "history":
            self._check_history(key, rule)
            return
        if rule.derived and rule.kind == "strings":
            raise ConfigError(key=f"{key}.kind", value=rule.kind, allowed=f"string or number for {rule.of}")
        many = bool(rule.split) + bool(rule.flags)
        if (rule.kind == "strings") != (many == 1):
            raise ConfigError(key=f"{key}.kind", value=rule.kind, allowed="strings with exactly one of split and flags")
        if rule.width and rule.kind != "string":
            raise ConfigError(key=f"{key}.width", value=rule.width, allowed="only with kind = string")

    def _check_history(self, key: str, rule: FeatureRule) -> None:
        if rule.kind != "strings":
            raise ConfigError(key=f"{key}.kind", value=rule.kind, allowed="strings for history")
        for name in ("column", "side", "split", "flags", "width"):
            if value := getattr(rule, name):
                raise ConfigError(key=f"{key}.{name}", value=value, allowed="not with of = history: it has no column")
        keys = ["item", *(each.name for each in self.feature if each.of == "candidate" and each.kind != "number")]
        readers = ["user", *(each.name for each in self.feature if each.of == "context" and each.kind == "string")]
        kinds = ["", *(each.kind for each in self.outcome)]
        for name, value, allowed in (
            ("key", rule.key, keys),
            ("by", rule.by, readers),
            ("outcome", rule.outcome, kinds),
        ):
            if value not in allowed:
                raise ConfigError(
                    key=f"{key}.{name}", value=value, allowed=f"one of {[each for each in allowed if each]}"
                )

    def _check_crosses(self) -> None:
        strings = [each.name for each in self.features() if each.kind != "number"]
        for cross in self.crosses:
            parts = cross.split("*")
            if len(parts) < 2 or len(set(parts)) != len(parts) or not set(parts) <= set(strings):
                raise ConfigError(key="crosses", value=cross, allowed=f"a*b of different features of {strings}")


def load(path: Path) -> Mapping:
    """Read and check a mapping file.

    Raises:
        ConfigError: one line that names the file, the key, the value and what is allowed.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            file=str(path), key="file", value=str(path), allowed=error.strerror or "unreadable"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(file=str(path), key="file", value=path.name, allowed=f"must be TOML: {error}") from error
    try:
        return build(Mapping, tree | {"path": str(path)})
    except ConfigError as error:
        raise ConfigError(file=str(path), key=error.key, value=error.value, allowed=error.allowed) from error
