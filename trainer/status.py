"""What `/status` and the gauges show of a trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.release import flat_metrics

if TYPE_CHECKING:
    from trainer.train import Trainer


def status(trainer: Trainer) -> dict[str, Any]:
    """Everything that `/status` shows; sets the gauges on the way. Of the thread that learns."""
    where = trainer.where()
    ends = trainer.reader.ends if trainer.reader is not None else {}
    lag = sum(max(0, end - trainer.steps.offsets.get(partition, 0)) for partition, end in ends.items())
    trainer.show.lag.set(lag)
    trainer.show.paused.set(trainer.paused)
    for name in ("sequence", "epoch"):
        getattr(trainer.show, name).set(where[name])
    trainer.loop.validation.fold()
    figures = flat_metrics(trainer.loop)
    for name, figure in figures.items():
        over = "window" if name.startswith("window_") else "total"
        trainer.show.progressive.labels(name.removeprefix("window_"), over).set(figure)
    validation = trainer.loop.validation
    return where | {
        "model": trainer.settings.model.name,
        "line": trainer.line,
        "version": max(trainer.store.numbers(), default=0),
        "lag": lag,
        "watermark": validation.watermark,
        "open_rows": validation.open_rows,
        "unmatched_revisions": validation.unmatched,
        "examples": trainer.loop.examples,
        "refused_samples": trainer.loop.refused,
        "progressive": figures,
        "progressive_as_of": validation.metrics.newest,
        "slices": validation.metrics.slices(),
        "settled": str(trainer.places.settled),
    }
