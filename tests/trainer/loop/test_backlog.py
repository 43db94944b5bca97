"""The bench of the trainer on Kafka learns what it says, and its trainer goes on after the kill."""

from __future__ import annotations

from trainer import backlog
from trainer.backlog import Size


def test_a_backlog_is_learned_and_a_killed_trainer_publishes_again(kafka: str) -> None:
    said: list[str] = []
    size = Size(values=800, slates=150, warm=1_000, rate=20.0, after_s=1.0)
    found = {name: values for name, _, values in backlog.run(kafka, 1, size=size, say=said.append)}
    assert found.keys() == {"kafka_samples_per_s", "recovery_s"}
    assert found["kafka_samples_per_s"][0] > 0
    assert found["recovery_s"][0] > 0
    assert said == ["a model with 800 rows", "backlog, run 1", "kill, run 1"]
