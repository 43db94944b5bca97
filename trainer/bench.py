"""How fast the learner is, on slates made up for it.

A stream of slates of 20: of the 8 string features 5 have one value per slate, 3 one per item. Slates are decoded samples; what is
timed is all that follows: columns, fingerprints, look-up, scores, step. Columns and fingerprints of the next step are made by another
thread while TensorFlow takes this one. (The loop does one behind the other: what it reaches, `trainer.backlog` measures.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from feedback.events import Sample, Value
from feedback.features import Feature, FeatureSpec, Source
from trainer.batch import Batch, batch_of
from trainer.interpreter import prepare
from trainer.learner import Learner
from trainer.rows import Keyed
from trainer.settings import Admission, ModelSettings, SlotSettings

Rows = list[tuple[str, str, list[float]]]
Ints = NDArray[np.int64]

SLATE = 20
STEP = 2_048
QUALITY_STEP = 500
HISTORY = 6
CURRENT = 200
"""Items that readers read at one time."""
FEW = 32
"""Values of a feature such as a region or an hour."""
EXAMPLES = 150_000
"""Examples in a measurement."""
_PER_SLATE = 5
FEATURES = 8


def run(runs: int, say: Callable[[str], None] = lambda _: None) -> Rows:
    """`samples_per_s`, `quality_samples_per_s`, `table_10m_ratio` and `checkpoint_pause_ms`, with every run's value."""
    fast, quality, pause = [], [], []
    prepare()
    for seed in range(runs):
        say(f"learner, run {seed + 1}")
        learner = filled(1_000_000, ModelSettings(slots=SlotSettings(capacity=1 << 20)))
        fast.append(throughput(learner, 1_000_000, STEP, seed, EXAMPLES // STEP))
        pause.append(_pause_ms(learner))
        learner.close()
        learner = filled(200_000, quality_settings(), history=True)
        quality.append(throughput(learner, 200_000, QUALITY_STEP, seed, EXAMPLES // QUALITY_STEP, news=True))
        learner.close()
    say("a table of 10,000,000 rows beside one of 100,000")
    return [
        ("samples_per_s", "1/s", fast),
        ("quality_samples_per_s", "1/s", quality),
        ("table_10m_ratio", "", _ratios(runs)),
        ("checkpoint_pause_ms", "ms", pause),
    ]


def quality_settings() -> ModelSettings:
    """The kind of model that reaches the quality figures, with as many crosses as the news log's has: of the item with its reader, with
    what the reader read last, and with four features of a few values each; the rarest pairs are admitted late.

    There is room for all pairs, so that what is timed is learning, not the growth of the table. In a step of 500 rows, 620 columns have
    no row and 100 keys get one (the news log, half way: 690 and 100).
    """
    pairs = {
        "user*item": Admission(sightings=3),
        "recent*item": Admission(sightings=2),
        "c0*item": Admission(sightings=2),
    }
    return ModelSettings(
        crosses=("user*item", "c0*item", "c1*item", "c2*item", "c3*item", "i0*item", "recent*item"),
        slots=SlotSettings(capacity=1 << 20, sketch_width=1 << 22, per=pairs),
    )


def spec(*, history: bool = False) -> FeatureSpec:
    """8 string features: user and 4 of the context, item and 2 of the candidate; with `history` the reader's last items too."""

    def feature(name: str, source: Source) -> Feature:
        return Feature(name=name, source=source)

    recent = (Feature(name="recent", source="user_state", kind="strings"),) if history else ()
    return FeatureSpec(
        features=(
            *recent,
            feature("user", "user"),
            *(feature(f"c{i}", "context") for i in range(_PER_SLATE - 1)),
            feature("item", "item"),
            *(feature(f"i{i}", "candidate") for i in range(FEATURES - _PER_SLATE - 1)),
        )
    )


def samples(random: np.random.Generator, slates: int, values: int, *, news: bool = False) -> list[Sample]:
    """Slates whose features take one of `values` values each, all as likely; with `news` as in a log of news.

    As likely values hardly ever make the same pair twice, and nearly every key of a cross is new. News is read otherwise: a few
    hundred items at one time, some far more than others, by readers of whom few come twice; regions, hours, devices are few.
    """
    users = random.integers(0, values, slates)
    context = np.stack(
        [_drawn(random, slates, values, news and (CURRENT if i == 0 else FEW)) for i in range(_PER_SLATE - 1)], axis=1
    )
    items = [_drawn(random, (slates, SLATE), values, news and limit) for limit in (CURRENT, FEW, FEW)]
    recent = _drawn(random, (slates, HISTORY), values, news and CURRENT)
    labels = (random.random((slates, SLATE)) < 0.1).astype(int)
    return [
        Sample(
            sample_id=str(i),
            request_id=str(i),
            user_id=f"user-{users[i]}",
            event_time=1,
            settle_time=1,
            label_policy="click",
            emissions=labels[i].tolist(),
            positions=list(range(SLATE)),
            items=[f"item-{v}" for v in items[0][i]],
            context=_context([f"item-{v}" for v in recent[i]], context[i].tolist()),
            features={f"i{k}": [f"topic-{v}" for v in items[k + 1][i]] for k in range(2)},
        )
        for i in range(slates)
    ]


def _drawn(random: np.random.Generator, shape: int | tuple[int, ...], values: int, most: int) -> Ints:
    """Values of `values` that are all as likely, or of `most` of them the first far more than the last."""
    if not most:
        return random.integers(0, values, shape)
    return (min(values, most) * random.random(shape) ** 3).astype(np.int64)


def _context(recent: list[str], values: list[int]) -> dict[str, Value]:
    made: dict[str, Value] = {f"c{k}": f"context-{value}" for k, value in enumerate(values)}
    return made | {"recent": list(recent)}


def filled(rows: int, settings: ModelSettings, *, history: bool = False, line: str = "bench") -> Learner:
    """A learner that owns about `rows` rows of embeddings: every value of every feature has been seen."""
    learner = Learner(spec(history=history), settings, line=line)
    values = rows // FEATURES
    for start in range(0, values, 20_000):
        learner.learn(_every(start, min(start + 20_000, values), learner.plan.features))
    return learner


def throughput(learner: Learner, rows: int, step: int, seed: int, steps: int = 60, *, news: bool = False) -> float:
    """Samples a second, from decoded samples to updated weights."""
    random = np.random.default_rng(seed)
    per_step = -(-step // SLATE)
    groups = [samples(random, per_step, rows // FEATURES, news=news) for _ in range(steps + 10)]
    with ThreadPoolExecutor(1) as pool:
        for batch, keyed in _ahead(pool, learner, groups[:10]):
            learner.learn(batch, keyed)
        start = time.perf_counter()
        learned = sum(len(learner.learn(batch, keyed)) for batch, keyed in _ahead(pool, learner, groups[10:]))
        return learned / (time.perf_counter() - start)


def _ahead(pool: ThreadPoolExecutor, learner: Learner, groups: Sequence[list[Sample]]) -> Iterator[tuple[Batch, Keyed]]:
    def made(group: list[Sample]) -> tuple[Batch, Keyed]:
        batch = batch_of(learner.plan.features, group)
        return batch, learner.prepare(batch)

    waiting = pool.submit(made, groups[0])
    for group in groups[1:]:
        ready, waiting = waiting.result(), pool.submit(made, group)
        yield ready
    yield waiting.result()


def _every(start: int, stop: int, features: FeatureSpec) -> Batch:
    """One row for each number: it is the value of every feature."""

    def column(prefix: str) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
        array = np.empty(stop - start, dtype=object)
        array[:] = [f"{prefix}-{v}" for v in range(start, stop)]
        return array

    prefixes = {"user": "user", "item": "item", "recent": "item", "c": "context", "i": "topic"}
    n = stop - start
    columns = {f.name: column(prefixes.get(f.name) or prefixes[f.name[0]]) for f in features.features}
    if "recent" in columns:
        columns["recent"] = columns["recent"][:, None]
    return Batch(
        columns=columns,
        emissions=np.zeros(n, np.int8),
        weights=np.ones(n, np.float32),
        positions=np.zeros(n, np.int32),
        event_time=1,
    )


def _ratios(runs: int) -> list[float]:
    """Median time of a step with 10 M rows over that with 100 k, the two taking turns."""
    sizes = (10_000_000, 100_000)
    learners = [filled(rows, ModelSettings(slots=SlotSettings(capacity=rows + 1024))) for rows in sizes]
    found = []
    for seed in range(runs):
        random = np.random.default_rng(seed)
        times = np.array(
            [[_step_s(each, rows, random) for each, rows in zip(learners, sizes, strict=True)] for _ in range(60)]
        )
        large, small = np.median(times[10:], axis=0)
        found.append(float(large / small))
    for each in learners:
        each.close()
    return found


def _step_s(learner: Learner, rows: int, random: np.random.Generator) -> float:
    batch = batch_of(learner.plan.features, samples(random, STEP // SLATE, rows // FEATURES))
    start = time.perf_counter()
    learner.learn(batch)
    return time.perf_counter() - start


def _pause_ms(learner: Learner) -> float:
    """How long training stands still for its first checkpoint: the copy; everything else is done beside it."""
    start = time.perf_counter()
    learner.snapshot()
    return (time.perf_counter() - start) * 1e3
