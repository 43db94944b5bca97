"""The settings of a loop over one log: features and windows as its mapping says, and versions often enough to watch them."""

from __future__ import annotations

from typing import Any, Final

from everloop.demo import toml
from everloop.logs.mapping import Mapping
from feedback.features import Feature

PACE: Final[dict[str, Any]] = {
    # A version every few seconds: far more often than a loop needs that lives by deltas, so that swaps can be watched.
    "trainer.versions.every_s": 4.0,
    "trainer.checkpoints.every_s": 10.0,
    # The replayer's ticks carry the log's time; the gateway's would carry the wall's.
    "gateway.ticks": False,
    "kafka.partitions": 4,
}
"""What holds for every demo."""


def settings(mapping: Mapping) -> dict[str, Any]:
    """All settings that differ from the defaults, by dotted key as in everloop.toml."""
    return {
        **PACE,
        "streams.join.window_s": mapping.window_s,
        "streams.join.lateness_s": mapping.lateness_s,
        "streams.labels.positive": mapping.positive,
        "trainer.model.crosses": list(mapping.crosses),
        "gateway.slate.max_count": mapping.slate.most if mapping.slate.most > 200 else 200,
        **mapping.loop,
        "features": [_feature(each) for each in mapping.features()],
    }


def written(mapping: Mapping) -> str:
    """The same as the text of an everloop.toml."""
    head = f"# Written by `everloop demo` for the log {mapping.name}; start the same loop again with `everloop up`.\n\n"
    return head + toml.text(toml.tree(settings(mapping))) + "\n"


def _feature(feature: Feature) -> dict[str, Any]:
    return {"name": feature.name, "source": feature.source, "kind": feature.kind}
