"""A model that writes its own weights: predictions and deltas in one session at one time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.model_server.conftest import FAST, Served, Shelf, write_config


def delta(follows: int) -> bytes:
    """A delta that follows on that sequence."""
    tensor = tf.make_tensor_proto([follows], tf.int64)
    return bytes(tensor.SerializeToString())


@pytest.fixture
def server(tmp_path: Path, shelf: Shelf) -> Iterator[Served]:
    """A server of the living model."""
    config = write_config(tmp_path / "c", {"name": "living", "base_path": shelf.base("living")})
    with Served(replace(FAST, model_config_file=config)) as running:
        yield running


def _sync(server: Served, follows: int) -> int:
    answer = server.predict("living", signature="sync", delta=np.array([delta(follows)], dtype=object))
    return int(answer.outputs["sequence"].int64_val[0])


def _ask(server: Served) -> tuple[int, float]:
    answer = server.predict("living", x=np.array([["a", "b"]], dtype=object))
    return int(answer.outputs["sequence"].int64_val[0]), float(answer.outputs["score"].float_val[0])


def test_a_delta_changes_the_next_prediction(server: Served) -> None:
    assert _ask(server) == (0, 0.0)
    assert _sync(server, 0) == 1
    assert _ask(server) == (1, 1.0)


def test_a_repeat_and_a_gap_change_nothing(server: Served) -> None:
    assert _sync(server, 0) == 1
    assert _sync(server, 0) == 1
    assert _sync(server, 7) == 1
    assert _ask(server) == (1, 1.0)


def test_predictions_go_on_while_deltas_come(server: Served) -> None:
    stop = threading.Event()

    def client() -> list[tuple[int, float]]:
        seen = []
        while not stop.is_set():
            seen.append(_ask(server))
        return seen

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client) for _ in range(3)]
        reached = [_sync(server, sequence) for sequence in range(200)]
        stop.set()
    assert reached == list(range(1, 201))
    for done in clients:
        seen = done.result()
        assert [sequence for sequence, _ in seen] == sorted(sequence for sequence, _ in seen)
        assert all(score >= sequence for sequence, score in seen)


def test_of_two_equal_deltas_at_one_time_one_counts(server: Served) -> None:
    with ThreadPoolExecutor(4) as pool:
        for sequence in range(25):
            answers = [pool.submit(_sync, server, sequence) for _ in range(4)]
            assert {answer.result() for answer in answers} == {sequence + 1}
