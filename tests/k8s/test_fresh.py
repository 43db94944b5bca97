"""A model server is sent requests when its follower has caught up, and not before: the manifest's own probe, on real processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec

from feedback.settings import KafkaSettings
from feedback.topics import create_topics
from k8s.objects import Object, component, pod_spec
from k8s.status import Part, status
from serving.follower.settings import DeadlineSettings, FollowerSettings
from tests.follower.kit import Line
from tests.follower.stage import Process, model_server
from tests.k8s.kit import House, until
from tests.k8s.kubelet import PROBED, Prober

BEHIND = 400
"""Deltas that the first version does not contain."""


def probed(items: list[Object]) -> list[Object]:
    """The model server alone, its readiness not pretended."""
    for item in items:
        if component(item) == "model-server" and pod_spec(item) is not None:
            item["spec"]["template"]["metadata"]["annotations"] = {PROBED: "true"}
    return [item for item in items if pod_spec(item) is None or component(item) == "model-server"]


def served(house: House) -> Part:
    """What `everloop k8s status` says of the model server."""
    [found] = [part for part in status(house.kube, house.name).parts if part.name == "model-server"]
    return found


def stop(process: Process, number: signal.Signals) -> None:
    assert process._process is not None
    os.kill(process._process.pid, number)


def test_a_model_server_gets_requests_only_while_its_follower_has_caught_up(
    house: House, kafka: str, namespace: str, data_dir: Path, tmp_path: Path
) -> None:
    topics = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=1)
    create_topics(topics)
    line = Line(topics, tmp_path / "models")
    line.base(1)
    for _ in range(BEHIND):
        line.delta()
    port = house.cluster.forwards[9103]
    settings = FollowerSettings(
        poll_s=0.05, first_live_s=600.0, report_s=0.1, batch=1, deadlines=DeadlineSettings(sync_s=0.5, status_s=0.5)
    )
    items = probed(house.rendered())
    for item in items:
        house.kube.apply(item)
    until(lambda: [pod["status"].get("phase") for pod in house.pods("model-server")] == ["Running"])
    with model_server(tmp_path) as server:
        follower = Process(
            [
                sys.executable, "-m", "serving.follower", f"--kafka={kafka}", f"--namespace={namespace}",
                f"--data={data_dir}", "--replica=a", f"--model-server=127.0.0.1:{server.ready['grpc_port']}",
                f"--http-port={port}", f"--settings={msgspec.json.encode(settings).decode()}",
            ],
            tmp_path / "follower.log",
        )  # fmt: skip
        with Prober(house, "model-server", {"follower": lambda: port}) as prober, follower:
            prober.round()
            assert house.addresses("model-server") == set()
            follower.start()
            until(lambda: house.addresses("model-server"))
            # Not a moment before it had them all.
            assert follower.get("/status")["loaded"]["1"]["sequence"] == BEHIND

            line.delta()
            until(lambda: served(house).copies[0].sequence == BEHIND + 1)
            [copy] = served(house).copies
            assert (copy.version, served(house).ready, served(house).why) == (1, 1, "")
            assert copy.freshness_p99_s is not None and copy.freshness_p99_s > 0

            # The server stands still while the line goes on: the follower lags, and the pod gets no more requests.
            stop(server, signal.SIGSTOP)
            line.delta()
            until(lambda: not house.addresses("model-server"))
            assert served(house).ready == 0
            assert "follower not ready yet" in served(house).why
            stop(server, signal.SIGCONT)
            until(lambda: house.addresses("model-server"))
            assert follower.get("/status")["loaded"]["1"]["sequence"] == BEHIND + 2
    line.close()
