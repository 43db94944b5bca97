"""The settings of a loop over one log: features and windows as its mapping says, and versions often enough to watch them."""

from __future__ import annotations

from typing import Any, Final

from everloop.demo import toml
from everloop.logs.mapping import Mapping
from feedback.features import Feature
from serving.gateway.settings import SlateSettings

PACE: Final[dict[str, Any]] = {
    # A version every few seconds: far more often than a loop needs that lives by deltas, so that swaps can be watched.
    "trainer.versions.every_s": 4.0,
    "trainer.checkpoints.every_s": 10.0,
    # Small steps: a log of 100,000 rows is soon over.
    "trainer.steps.examples": 100,
    # On two cores that also start TensorFlow for each version, a score may take a while; better than a fallback.
    "gateway.budget.request_s": 3.0,
    "gateway.budget.model_s": 2.5,
    # The replayer's ticks carry the log's time; the gateway's would carry the wall's.
    "gateway.ticks": False,
    "kafka.partitions": 4,
    # A busy machine and a part killed for show are no version's fault, and there is one every few seconds to blame.
    "steer.guard.enabled": False,
}
"""What holds for every demo."""


def base(mapping: Mapping) -> dict[str, Any]:
    """What a loop over a log needs to be told, demo or not: its features, windows and labels, by dotted key."""
    return {
        "streams.join.window_s": mapping.window_s,
        "streams.join.lateness_s": mapping.lateness_s,
        "streams.labels.positive": mapping.positive,
        "trainer.model.crosses": list(mapping.crosses),
        "gateway.slate.max_count": max(mapping.slate.most, SlateSettings().max_count),
        **mapping.loop,
        "features": [_feature(each) for each in mapping.features()],
    }


def settings(mapping: Mapping) -> dict[str, Any]:
    """The same with the demo's pace; a mapping's own settings overrule it."""
    return PACE | base(mapping)


def written(dotted: dict[str, Any], head: str) -> str:
    """Settings as the text of an everloop.toml."""
    return f"# {head}\n\n" + toml.text(toml.tree(dotted)) + "\n"


def _feature(feature: Feature) -> dict[str, Any]:
    return {"name": feature.name, "source": feature.source, "kind": feature.kind}
