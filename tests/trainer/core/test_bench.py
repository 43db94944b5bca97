"""The bench teaches what it says, and measures a number."""

from __future__ import annotations

from trainer import bench
from trainer.settings import ModelSettings, SlotSettings


def test_every_value_of_the_bench_has_a_row_before_the_clock_starts() -> None:
    learner = bench.filled(800, ModelSettings(slots=SlotSettings(capacity=1024)))
    assert learner.tables[0].slots.owned == 800
    assert bench.throughput(learner, 800, step=100, seed=0, steps=2) > 0
    assert learner.tables[0].slots.owned == 800
    assert learner.step == 1 + 12


def test_the_quality_model_reads_the_readers_last_items() -> None:
    learner = bench.filled(800, bench.quality_settings(), history=True)
    assert learner.tables[0].slots.owned == 900
    assert bench.throughput(learner, 800, step=100, seed=0, steps=2) > 0
