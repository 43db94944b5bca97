"""The gate between the trainer and the readers: pure. It is shown everything before it leaves, and says what must not.

Checks, each with its own allowance of false alarms (`false_alarm_days`):

- finite scores and delta, at once;
- log loss: a CUSUM on the clipped difference model − baseline per settled slate, so at equal label maturity;
- calibration of the last settled slates, outside its band by more than chance;
- the label stream, since log loss can't see a stall: click rate (CUSUM, up and down, on emissions) and the share that one
  reader has in the slates, or one item in the clicks;
- numbers that count as nothing: the share of slates with one (CUSUM);
- drift of the scores of a fixed probe set, against a plain bound.

Slates that something else chose teach the model, so they are watched too, but apart: what is normal there (a front page has another click
rate, other favourites) is not what is normal here, and how many come may change with the hour. Calibration is of slates of our own alone.

A statistical check begins once it has seen what is normal. The first suspect step travels with the alarm: what is older is good.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from feedback.clock import to_us
from feedback.events import OBSERVED, REVISION, Sample
from trainer.groups import GateSettings
from trainer.origin import Alarm, ClickRate, Stream
from trainer.tally import log_losses, logits
from trainer.validate import Settled

Array = NDArray[Any]

_DAY_S = 86_400.0
_RARE, _BROKEN = 0.001, 0.2
"""Share of slates with a number that is none: taken for normal at least, and suspected."""


class RefusedError(Exception):
    """What was about to leave must not. Caught by the loop, never by a caller."""

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        super().__init__(alarm.reason)


class Gate:
    """All checks of one line."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self.slates = 0
        """Settled slates looked at."""
        self._span = [0, 0]
        """Event time of the first and the newest settled slate, µs."""
        self._own, self._observed = Stream(settings), Stream(settings, "observed slates")
        self._calibration = Calibration(settings)
        self._numbers = LostNumbers()
        self.probe_samples: list[Sample] = []
        """The fixed probe set."""
        self._probe_logits: Array | None = None
        self._probed = 0

    def step(self, samples: Sequence[Sample], scores: Array, step: int, lost: Array | None = None) -> Alarm | None:
        """Look at a step: the samples it learned from, in order, the scores they had before, and `Batch.lost` of them."""
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        if bad:
            return Alarm("non_finite_scores", bad, 0, step)
        if not self._settings.enabled:
            return None
        self._collect(samples)
        alarm = self._lost(samples, lost, step) if lost is not None and self.slates > self._settings.arm else None
        for sample in samples:
            alarm = alarm or self._emitted(sample, step)
        return alarm

    def settled(self, settled: Settled) -> Alarm | None:
        """Look at slates whose labels became final."""
        self.slates += len(settled.slates)
        if not self._settings.enabled:
            return None
        rows = settled.rows
        times = rows["time"]
        self._span = [self._span[0] or int(times.min()), max(self._span[1], int(times.max()))]
        differences = log_losses(rows["score"], rows["label"]) - log_losses(rows["baseline"], rows["label"])
        sizes = np.diff(np.append(settled.starts, len(rows)))
        clip, often = self._settings.clip, self._often()
        per_slate = np.clip(np.add.reduceat(differences, settled.starts) / sizes, -clip, clip) - self._settings.margin
        for x, slate in zip(per_slate.tolist(), settled.slates, strict=True):
            if alarm := self._stream(slate.policy).settled(x, slate.step, often):
                return alarm
        # What a model that begins from nothing said of its first slates is no sign that it went wrong.
        return self._calibration.add(settled, often) if self.slates > self._settings.arm else None

    def probe_due(self, step: int) -> bool:
        """Whether the probe set is to be scored again."""
        return bool(self.probe_samples) and step - self._probed >= self._settings.probe_steps

    def probe(self, scores: Array, step: int) -> Alarm | None:
        """Look at the probe set's scores."""
        since, self._probed = self._probed, step
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        if bad:
            return Alarm("non_finite_probe", bad, 0, since + 1)
        before, self._probe_logits = self._probe_logits, logits(scores)
        if before is None or len(before) != len(scores) or self.slates <= self._settings.arm:
            return None
        drift = float(np.abs(self._probe_logits - before).mean())
        if self._settings.enabled and drift > self._settings.probe_logits:
            return Alarm("probe_drift", drift, self._settings.probe_logits, since + 1)
        return None

    def clear_since(self, slates: int) -> bool:
        """Whether enough slates settled since `slates` of them had, and nothing is under suspicion now."""
        streams = (self._own, self._observed)
        if not self._settings.enabled or all(stream.loss.limit == math.inf for stream in streams):
            return True
        suspicion = max(max(stream.loss.suspicion, stream.rate.suspicion) for stream in streams)
        return suspicion < 0.5 and self.slates - slates >= self._settings.probation

    def skipped(self) -> None:
        """Samples were left out: what the stream looks like begins anew."""
        for stream in (self._own, self._observed):
            stream.rate = ClickRate(self._settings)
        self._calibration = Calibration(self._settings)
        self._numbers = LostNumbers()

    def state(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "slates": self.slates,
            "span": self._span,
            **self._own.state(),
            "observed": self._observed.state(),
            "calibration": self._calibration.state(),
            "numbers": self._numbers.state(),
            "probe": self.probe_samples,
            "probe_logits": None if self._probe_logits is None else self._probe_logits.tolist(),
            "probed": self._probed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` answered, read back from MessagePack."""
        self.slates, self._span, self._probed = state["slates"], state["span"], state["probed"]
        self._own.restore(state)
        # A checkpoint of before there were slates that something else chose has none of theirs.
        self._observed.restore(state.get("observed") or Stream(self._settings).state())
        self._calibration.restore(state["calibration"])
        self.probe_samples = msgspec.convert(state["probe"], list[Sample])
        # A checkpoint of before there was this check has none of it.
        self._numbers.restore(state.get("numbers", LostNumbers().state()))
        found = state["probe_logits"]
        self._probe_logits = None if found is None else np.array(found)

    def _often(self) -> float:
        """Slates in the time in which one false alarm is allowed, at the pace so far."""
        span_s = max(1.0, (self._span[1] - self._span[0]) / to_us(1.0))
        return self.slates / span_s * self._settings.false_alarm_days * _DAY_S

    def _collect(self, samples: Sequence[Sample]) -> None:
        """Fill the probe set with the first impressions that come."""
        rows = sum(len(sample.emissions) for sample in self.probe_samples)
        for sample in samples:
            if rows >= self._settings.probe_rows:
                return
            if REVISION not in sample.emissions:
                self.probe_samples.append(msgspec.structs.replace(sample, sent_times=[]))
                rows += len(sample.emissions)

    def _lost(self, samples: Sequence[Sample], lost: Array, step: int) -> Alarm | None:
        lengths = np.array([len(sample.emissions) for sample in samples])
        starts = (np.cumsum(lengths) - lengths)[lengths > 0]
        return self._numbers.add(np.logical_or.reduceat(lost, starts).tolist(), step, self._often())

    def _emitted(self, sample: Sample, step: int) -> Alarm | None:
        if self.slates > self._settings.arm:
            return self._stream(sample.policy).emitted(sample, step, self._often())
        return None

    def _stream(self, policy: str) -> Stream:
        return self._observed if policy == OBSERVED else self._own


class LostNumbers:
    """Slates with a number that 32 bits can't hold, and that counts as 0: a CUSUM of the log likelihood ratio of many against as few
    as are normal, so that a threshold of ln N gives one false alarm in N."""

    def __init__(self) -> None:
        self._seen = [0, 0]
        """Slates, and those with such a number, while nothing was suspected."""
        self._value, self._since = 0.0, 0

    def add(self, lost: Sequence[bool], step: int, often: float) -> Alarm | None:
        """Take a step's slates."""
        bad = sum(lost)
        if not bad and not self._value:
            self._seen[0] += len(lost)
            return None
        normal = max(_RARE, self._seen[1] / max(1, self._seen[0]))
        if normal >= _BROKEN / 2:
            # Where they are usual they say nothing.
            self._seen = [self._seen[0] + len(lost), self._seen[1] + bad]
            return None
        for each in lost:
            ratio = math.log(_BROKEN / normal) if each else math.log((1 - _BROKEN) / (1 - normal))
            self._since = step if self._value <= 0 else self._since
            self._value = max(0.0, self._value + ratio)
            if self._value > math.log(max(often, 1000.0)):
                return Alarm("numbers_lost", bad / len(lost), normal, self._since)
        if not self._value:
            self._seen = [self._seen[0] + len(lost), self._seen[1] + bad]
        return None

    def state(self) -> list[Any]:
        """Everything, as plain values."""
        return [self._seen, self._value, self._since]

    def restore(self, state: list[Any]) -> None:
        """Take what `state` answered."""
        self._seen, self._value, self._since = state


class Calibration:
    """Predicted over observed clicks of the last settled slates of our own."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._last: deque[tuple[float, float, float, int]] = deque()
        self._sums = [0.0, 0.0, 0.0]

    def add(self, settled: Settled, often: float) -> Alarm | None:
        """Take settled slates; an alarm where the ratio is outside its band by more than chance allows."""
        scores = settled.rows["score"].astype(np.float64)
        columns = (scores, settled.rows["label"].astype(np.float64), scores * (1.0 - scores))
        sums = [np.add.reduceat(column, settled.starts).tolist() for column in columns]
        for predicted, clicks, variance, slate in zip(*sums, settled.slates, strict=True):
            if slate.policy == OBSERVED:
                continue
            self._last.append((predicted, clicks, variance, slate.step))
            self._sums = [a + b for a, b in zip(self._sums, (predicted, clicks, variance), strict=True)]
            if len(self._last) > self._settings.calibration_slates:
                old = self._last.popleft()
                self._sums = [a - b for a, b in zip(self._sums, old[:3], strict=True)]
        return self._look(often) if len(self._last) >= self._settings.calibration_slates else None

    def _look(self, often: float) -> Alarm | None:
        predicted, clicks, variance = self._sums
        ratio = predicted / max(clicks, 0.5)
        low, high = self._settings.calibration_low, self._settings.calibration_high
        if low <= ratio <= high:
            return None
        # Twice the variance of independent coins: clicks of one slate and reader come together.
        by = abs(predicted - clicks) / math.sqrt(2.0 * max(variance, 1e-9))
        if by < math.sqrt(2.0 * math.log(max(often, 1000.0))):
            return None
        return Alarm("calibration", ratio, low if ratio < low else high, min(each[3] for each in self._last))

    def state(self) -> list[Any]:
        """Everything, as plain values."""
        return [list(self._last), self._sums]

    def restore(self, state: list[Any]) -> None:
        """Take what `state` answered."""
        self._last = deque((a, b, c, d) for a, b, c, d in state[0])
        self._sums = state[1]
