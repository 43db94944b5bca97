"""Batching: the arithmetic, and requests that come at one time (7.7)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.model_server.batches import BatchSettings, batch_size, check, merge, rounded, split
from serving.model_server.faults import ServingError
from serving.model_server.loader import read_batching
from serving.model_server.metrics import Metrics
from serving.model_server.server import build
from tests.model_server.conftest import FAST, Served, Shelf, failure, write_config
from tests.model_server.test_living import delta

PARAMETERS = """
max_batch_size { value: 8 }
batch_timeout_micros { value: 200000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
thread_pool_name { value: "pool" }
allowed_batch_sizes: 4
allowed_batch_sizes: 8
"""


def test_the_file_is_read() -> None:
    settings = read_batching(PARAMETERS, file="f")
    assert settings == BatchSettings(
        max_batch_size=8, batch_timeout_s=0.2, max_enqueued_batches=100, batch_threads=2, allowed_batch_sizes=(4, 8)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("max_batch_size: 8", "Invalid protobuf file: 'f'", id="no-wrapper"),
        pytest.param("allowed_batch_sizes: 4 allowed_batch_sizes: 2", "monotonically increasing", id="falling"),
        pytest.param("max_batch_size { value: 8 } allowed_batch_sizes: 4", "must match max_batch_size", id="last"),
        pytest.param("max_batch_size { value: 0 }", "max_batch_size must be positive", id="zero"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(text: str, message: str) -> None:
    with pytest.raises(ServingError, match=message):
        read_batching(text, file="f")


def test_a_file_without_the_flag_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="without setting --enable_batching"):
        build(replace(FAST, batching_parameters_file=str(tmp_path / "f")), Metrics())


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), allowed=st.sampled_from([(), (4, 8, 30), (30,)]))
def test_what_is_merged_is_split_again(sizes: list[int], allowed: tuple[int, ...]) -> None:
    tasks = [[np.full((size, 2), index)] for index, size in enumerate(sizes)]
    rows = rounded(sum(sizes), allowed)
    (merged,) = merge(["x"], tasks, rows=rows, pad=False)
    assert merged.shape == (rows, 2)
    back = split([merged], sizes, rows=rows)
    for task, answer in zip(tasks, back, strict=True):
        np.testing.assert_array_equal(task[0], answer[0])


def test_filling_up_repeats_the_first_row() -> None:
    (merged,) = merge(["x"], [[np.array([7, 8])]], rows=4, pad=False)
    assert merged.tolist() == [7, 8, 7, 7]


def test_different_tails_are_padded_only_when_asked() -> None:
    tasks = [[np.ones((1, 2))], [np.ones((1, 3))]]
    with pytest.raises(ServingError, match="from different tasks have different shapes and padding is turned off"):
        merge(["x"], tasks, rows=2, pad=False)
    (merged,) = merge(["x"], tasks, rows=2, pad=True)
    assert merged.tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        pytest.param([], "Batching Run() must have at least one input tensor", id="none"),
        pytest.param([np.array(1)], "Batching Run() input tensors must have at least one dimension", id="scalar"),
        pytest.param(
            [np.ones(1), np.ones(2)], "Batching Run() input tensors must have equal 0th-dimension size", id="unequal"
        ),
    ],
)
def test_what_cannot_be_batched_is_refused(arrays: list[Any], text: str) -> None:
    with pytest.raises(ServingError) as caught:
        batch_size(arrays)
    assert caught.value.message == text


@pytest.mark.parametrize(
    ("output", "text"),
    [(np.array(1), "has 0 dimensions"), (np.ones(3), "0th dimension does not equal")],
    ids=["scalar", "other-rows"],
)
def test_outputs_must_have_a_row_per_row(output: Any, text: str) -> None:
    with pytest.raises(ServingError, match=text):
        split([output], [1, 1], rows=2)


def test_settings_that_fit_are_accepted() -> None:
    check(
        BatchSettings(max_batch_size=8, split_large_batches=True, max_execution_batch_size=4, allowed_batch_sizes=(4,))
    )


def _flags(tmp_path: Path, shelf: Shelf, parameters: str) -> Any:
    (tmp_path / "batching").write_text(parameters)
    names = ("tall", "multi", "odd", "living", "slow")
    config = write_config(tmp_path / "c", *({"name": name, "base_path": shelf.base(name)} for name in names))
    return replace(
        FAST, model_config_file=config, enable_batching=True, batching_parameters_file=str(tmp_path / "batching")
    )


def test_requests_that_come_at_one_time_run_in_one_run(tmp_path: Path, shelf: Shelf) -> None:
    with Served(_flags(tmp_path, shelf, PARAMETERS)) as server, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(server.predict, "tall", x=np.full((3, 2), n, np.float32)) for n in (1, 2)]
        for number, answer in enumerate((call.result() for call in asked), start=1):
            assert list(answer.outputs["sum"].float_val) == [2.0 * number] * 3
            assert list(answer.outputs["rows"].int_val) == [8] * 3
        lone = server.predict("tall", x=np.ones((3, 2), np.float32))
        assert list(lone.outputs["rows"].int_val) == [4] * 3
        assert failure(lambda: server.predict("tall", x=np.ones((9, 2), np.float32))) == (
            "INVALID_ARGUMENT",
            "Task size 9 is larger than maximum input batch size 8",
        )
        scalar = server.http("POST", "/v1/models/odd:predict", {"inputs": 2.0})
        assert (scalar.code, scalar.error) == (400, "Batching Run() input tensors must have at least one dimension")
        text = server.server.service.metrics.text()
        assert ":tensorflow:serving:batching_session:wrapped_run_count{} " in text
        assert ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name="tall"} 3' in text


def test_a_request_that_is_too_large_may_be_split(tmp_path: Path, shelf: Shelf) -> None:
    parameters = (
        "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }"
    )
    with Served(_flags(tmp_path, shelf, parameters)) as server:
        answer = server.predict("tall", x=np.arange(22, dtype=np.float32).reshape(11, 2))
        assert list(answer.outputs["sum"].float_val) == [4.0 * row + 1 for row in range(11)]
        assert max(answer.outputs["rows"].int_val) <= 4


def test_a_full_queue_refuses(tmp_path: Path, shelf: Shelf) -> None:
    parameters = "max_batch_size { value: 1 } max_enqueued_batches { value: 1 } num_batch_threads { value: 1 }"
    flags = _flags(tmp_path, shelf, parameters)
    with Served(flags) as server, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(lambda: server.predict("slow", x=[1.0], timeout=30)) for _ in range(3)]
        first = next(as_completed(waiting))
        code, text = failure(first.result)
        assert code == "UNAVAILABLE"
        assert "The batch scheduling queue to which this task was submitted is full" in text
        bundle = server.server.service.core.servable("slow", 1).bundle
        for _ in range(2):
            bundle.run(("x:0",), [np.ones(1, np.float32)], (bundle.signatures["release"].outputs["y"],))
        for call in waiting:
            if call is not first:
                call.result()


def test_deltas_are_applied_through_batching(tmp_path: Path, shelf: Shelf) -> None:
    with Served(_flags(tmp_path, shelf, PARAMETERS)) as server:
        for sequence in range(3):
            answer = server.predict("living", signature="sync", delta=np.array([delta(sequence)], dtype=object))
            assert list(answer.outputs["sequence"].int64_val) == [sequence + 1]


def test_a_model_may_bring_its_own_parameters(tmp_path: Path, shelf: Shelf) -> None:
    path = shelf.publish(tmp_path / "tall", 1, name="tall")
    (path / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    config = write_config(tmp_path / "c", {"name": "tall", "base_path": tmp_path / "tall"})
    flags = replace(FAST, model_config_file=config, enable_batching=True, enable_per_model_batching_parameters=True)
    with Served(flags) as server:
        assert failure(lambda: server.predict("tall", x=np.ones((3, 2), np.float32)))[0] == "INVALID_ARGUMENT"
