"""A trainer as a process of its own, by default with the learner that needs no TensorFlow: `python -m tests.trainer.loop.process JSON`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from feedback.settings import KafkaSettings
from tests.trainer.loop.world import FEATURES
from trainer.fake import FakeLearner
from trainer.main import run
from trainer.settings import TrainerSettings


def main(text: str) -> int:
    """Run with what the JSON says: bootstrap, namespace, partitions, data, settings, tensorflow."""
    told: dict[str, Any] = json.loads(text)
    kafka = KafkaSettings(bootstrap=told["bootstrap"], namespace=told["namespace"], partitions=told["partitions"])
    settings = msgspec.convert(told["settings"], TrainerSettings)
    make = None if told.get("tensorflow") else FakeLearner
    return run(kafka=kafka, features=FEATURES, settings=settings, data=Path(told["data"]), make=make)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
