"""`everloop bench freshness`: from an outcome's sent_time to the first answer of a model that learned from it, at 50 requests/s.

Read from the topics: when an outcome was sent and which delta carries it stands in the delta's header, what had been learned
when an answer was given in the prediction event. The peer is the same loop with whole versions only, exported as fast as
the machine allows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from everloop.benches import Options, stages
from everloop.benches.whole import Whole, whole
from everloop.demo.freshness import Learned, Served, freshness_s, swaps
from everloop.figures import Peer, Report, figure, report
from feedback.features import FeatureSpec

SECONDS: Final = 200.0
"""Length of one run; three of them are ten minutes."""
RATE: Final = 50.0
_WARM_S: Final = 15.0
_SWAP_S: Final = 20.0

LIVING: Final[dict[str, Any]] = {"trainer.versions.every_s": _SWAP_S}
"""Living versions, and a new base every 20 s, so that swaps are in the figures."""
WHOLE_VERSIONS: Final[dict[str, Any]] = {
    "follower.deltas": False,
    "trainer.versions.every_s": 0.5,
    "trainer.versions.share": 1.0,
    "trainer.gate.probation": 0,
}
"""Nothing but whole versions, each begun half a second after the last at most."""


def run(options: Options) -> Report:
    """Measure freshness, `options.runs` times, and the peer once."""
    ours = [_measure(LIVING, seed=number + 1) for number in range(options.runs)]
    names = {name: unit for each in ours for name, (unit, _) in each.items()}
    found = [figure(name, unit, [each[name][1] for each in ours if name in each]) for name, unit in names.items()]
    peers = _peer(ours[0]) if options.peers else []
    return report("freshness", found, peers)


def _measure(settings: Mapping[str, Any], *, seed: int) -> dict[str, tuple[str, float]]:
    with whole(settings) as loop:
        return measured(loop, rate=RATE, warm_s=_WARM_S, seconds=SECONDS, seed=seed)


def measured(
    loop: Whole, *, rate: float, warm_s: float, seconds: float, seed: int, **who: float
) -> dict[str, tuple[str, float]]:
    """Let readers come to a running loop; answer what became of their outcomes. `who`: see `Whole.readers`."""
    loop.readers(rate=rate, seconds=warm_s, seed=1000 + seed, **who)
    before = stages.read(loop.supervisor)
    counted = loop.readers(rate=rate, seconds=seconds, seed=seed, **who)
    time.sleep(1.0)
    begin = counted["begin"] * 1e6
    served = [each for each in loop.observer.served if each.sent_time >= begin]
    fresh = _since(begin, loop.observer.learned, served)
    found = {
        "freshness_p50_s": ("s", float(np.quantile(fresh, 0.5))),
        "freshness_p99_s": ("s", float(np.quantile(fresh, 0.99))),
        "outcomes_measured": ("", float(len(fresh))),
        "swaps": ("", float(swaps(served))),
        "versions_refused": ("", float(sum(event.event == "refused" for event in loop.observer.events))),
        "failed_requests": ("", float(counted["failed"])),
        "residual": ("impressions", float(loop.observer.residual())),
        "sample_residual": ("examples", float(loop.observer.sample_residual())),
    }
    if overheads := _overheads(loop):
        found["delta_overhead"] = ("", max(overheads))
    seen = stages.quantiles(stages.read(loop.supervisor), before)
    for stage, (p50, p99) in seen.items():
        found[f"stage_{stage}_p50_s"] = ("s", p50)
        found[f"stage_{stage}_p99_s"] = ("s", p99)
    return found


def _overheads(loop: Whole) -> list[float]:
    """Of each delta that is still in the log: its records' bytes but 1 KB for headers, over the bytes of what it carries."""
    from trainer.delta import content
    from trainer.fields import plan
    from trainer.line import line_of
    from trainer.publish import read_published

    config = loop.session.loaded.config
    spec = FeatureSpec(features=config.features)
    served = [table.served for table in plan(spec, config.trainer.model).tables]
    published = read_published(loop.kafka, line=line_of(spec, config.trainer.model))
    return [(each.size - 1024) / content(each.value, served) for each in published if each.header.kind == "rows"]


def _since(begin: float, learned: Learned, served: list[Served]) -> NDArray[np.float64]:
    """Freshness of the outcomes that were sent while the measured readers came."""
    kept = Learned()
    for epoch, sequence, sent in zip(learned.epochs, learned.sequences, learned.sent_times, strict=True):
        if sent >= begin:
            kept.add(epoch=epoch, sequence=sequence, sent_times=[sent])
    return freshness_s(kept, served)


def _peer(ours: Mapping[str, tuple[str, float]]) -> list[Peer]:
    theirs = _measure(WHOLE_VERSIONS, seed=1)
    return [
        Peer(
            name="whole versions only",
            version="the same loop",
            figure=name,
            value=theirs[name][1],
            unit="s",
            ratio=theirs[name][1] / ours[name][1],
        )
        for name in ("freshness_p50_s", "freshness_p99_s")
    ]
