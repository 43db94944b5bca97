"""What a running trainer shows."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from tests.trainer.loop.running import World, caught_up, turn_until
from tests.trainer.loop.world import slates
from trainer.observe import StatusServer


def test_metrics_status_and_health_are_served(world: World) -> None:
    trainer = world.trainer()
    world.join.write(list(slates(80)))
    turn_until(trainer, caught_up(trainer))
    trainer.deltas.flush()
    trainer.shown = trainer.status()
    server = StatusServer(trainer.show.registry, lambda: trainer.shown, port=0, host="127.0.0.1")

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    try:
        status = json.loads(get("/status"))
        metrics = get("/metrics")
        assert json.loads(get("/health")) == {"status": "ok"}
        with pytest.raises(urllib.error.HTTPError) as refused:
            get("/nothing")
        refused.value.close()
    finally:
        server.close()
    assert status["sequence"] == trainer.loop.learner.sequence > 0
    assert 0 < status["progressive"]["auc"] < 1
    assert {"auc_served", "auc_baseline", "calibration", "window_log_loss"} <= set(status["progressive"])
    assert "position_1" in status["slices"]
    for stage in ("joined", "trained"):
        count = next(line for line in metrics.splitlines() if f'freshness_seconds_count{{stage="{stage}"}}' in line)
        assert float(count.split()[-1]) > 0
    assert f"everloop_trainer_sequence {float(status['sequence'])}" in metrics
