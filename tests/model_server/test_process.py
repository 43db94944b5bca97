"""The server as a process of its own: flags, exit statuses, the ready line, signals, sockets, deadlines, monitoring."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.model_server.main import FAILED, main
from tests.model_server.conftest import FAST, Served, Shelf, failure, predict_request, write_config


@contextmanager
def _process(*flags: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "serving.model_server", *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def test_a_process_says_when_it_is_ready_and_ends_at_once(shelf: Shelf, tmp_path: Path) -> None:  # G-28, G-29
    path = f"{tmp_path}/socket"
    flags = ["--port=0", "--rest_api_port=0", "--host=127.0.0.1", f"--grpc_socket_path={path}", "--unheard=1"]
    with _process(*flags, "--model_name=m", f"--model_base_path={shelf.base('h2')}") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        for address in (f"127.0.0.1:{ready['grpc_port']}", f"unix:{path}"):
            with grpc.insecure_channel(address) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                assert list(stub.Predict(predict_request("m", x=[2.0])).outputs["y"].float_val) == [3.0]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGTERM
        assert "Unknown flag: --unheard=1" in errors


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["--file_system_poll_wait_seconds=0.5", "--model_base_path=/x"], id="7.3"),
        pytest.param([], id="no-model"),
        pytest.param(["--model_config_file=/nowhere/at/all"], id="no-file"),
        pytest.param(["--model_base_path=relative"], id="relative-path"),
    ],
)
def test_a_start_that_fails_exits_with_255(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags) == FAILED
    assert capsys.readouterr().err


def test_a_broken_only_version_exits_with_255(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # T-13
    (tmp_path / "1").mkdir()
    flags = [f"--model_base_path={tmp_path}", "--max_num_load_retries=0", "--num_load_threads=1", "--port=0"]
    assert main(flags) == FAILED
    assert "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available" in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert "TensorFlow ModelServer" in capsys.readouterr().out


def test_a_deadline_ends_the_call_and_not_the_server(tmp_path: Path, shelf: Shelf) -> None:  # G-26, R-32, R-30
    config = write_config(tmp_path / "c", {"name": "slow", "base_path": shelf.base("slow")})
    flags = replace(FAST, model_config_file=config, rest_api_timeout_in_ms=200, rest_api_num_threads=3)
    with Served(flags) as server, ThreadPoolExecutor(1):
        code, _ = failure(lambda: server.predict("slow", x=[1.0], timeout=0.2))
        assert code == "DEADLINE_EXCEEDED"
        reply = server.http("POST", "/v1/models/slow:predict", {"inputs": [1.0]})
        assert (reply.code, reply.error) == (504, "Timed out waiting for notification")
        for _ in range(2):
            server.predict("slow", signature="release", x=[1.0])
        assert server.predict("slow", signature="quick", x=[1.0]).outputs["y"].float_val[0] == 2.0


def test_slow_requests_do_not_hold_up_quick_ones(tmp_path: Path, shelf: Shelf) -> None:
    config = write_config(tmp_path / "c", {"name": "slow", "base_path": shelf.base("slow")})
    with Served(replace(FAST, model_config_file=config, grpc_max_threads=4)) as server, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(lambda: server.predict("slow", x=[1.0])) for _ in range(3)]
        for _ in range(50):
            server.predict("slow", signature="quick", x=[1.0])
        assert not any(call.done() for call in waiting)
        for _ in waiting:
            server.predict("slow", signature="release", x=[1.0])
        for call in waiting:
            call.result()


def test_health_is_served_when_asked(tmp_path: Path, shelf: Shelf) -> None:  # G-27
    config = write_config(tmp_path / "c", {"name": "m", "base_path": shelf.base("h2")})
    with Served(replace(FAST, model_config_file=config, enable_grpc_healthcheck_service=True)) as server:
        check = server.channel.unary_unary("/grpc.health.v1.Health/Check")
        for name in ("ModelService", "PredictionService"):
            assert check(b"\n" + bytes([len(name)]) + name.encode()) == b"\x08\x01"
        assert failure(lambda: check(b"\n\x03foo"))[0] == "NOT_FOUND"


def test_answers_may_be_content(tmp_path: Path, shelf: Shelf) -> None:  # G-01
    config = write_config(tmp_path / "c", {"name": "m", "base_path": shelf.base("h2")})
    with Served(replace(FAST, model_config_file=config, enable_serialization_as_tensor_content=True)) as server:
        answer = server.predict("m", x=[2.0]).outputs["y"]
        assert (answer.tensor_content, list(answer.float_val)) == (b"\x00\x00\x40\x40", [])


class TestMonitoring:
    """7.8."""

    def test_metrics_are_prometheus_text(self, served: Served) -> None:
        served.predict("m", x=[2.0])
        served.http("POST", "/v1/models/m:predict", {"instances": [2.0]})
        served.http("GET", "/v1/models/unheard")
        reply = served.http("GET", "/monitoring/prometheus/metrics")
        assert reply.headers["content-type"] == "text/plain"
        text = reply.body.decode()
        assert ':tensorflow:serving:request_count{model_name="m",status="OK"}' in text
        assert ':tensorflow:serving:request_count{model_name="unheard",status="NOT_FOUND"}' in text
        assert ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"}' in text
        assert ':tensorflow:serving:request_latency_count{model_name="m",API="predict",entrypoint="REST"}' in text
        assert ':tensorflow:serving:runtime_latency_count{model_name="m",API="Predict",runtime="TF1"}' in text
        assert ":tensorflow:cc:saved_model:load_attempt_count{" in text

    def test_a_query_is_refused(self, served: Served) -> None:
        reply = served.http("GET", "/monitoring/prometheus/metrics?x")
        assert reply.code == 400
        assert reply.body.decode() == (
            "Unexpected path: /monitoring/prometheus/metrics?x. Should be /monitoring/prometheus/metrics"
        )

    def test_it_is_off_by_default(self, tmp_path: Path, shelf: Shelf) -> None:
        config = write_config(tmp_path / "c", {"name": "m", "base_path": shelf.base("h2")})
        with Served(replace(FAST, model_config_file=config)) as server:
            reply = server.http("GET", "/monitoring/prometheus/metrics")
            assert reply.code == 404
            assert b"<H1>Not Found</H1>" in reply.body
