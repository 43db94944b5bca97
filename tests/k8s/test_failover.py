"""A node is lost: the trainer comes up on another, the Lease moves, and what the old one publishes then is refused by Kafka."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from feedback.features import FeatureSpec
from feedback.settings import KafkaSettings
from feedback.topics import create_topics
from k8s.lead import LOST
from k8s.objects import Object
from tests.k8s.controlplane.cluster import Cluster
from tests.k8s.kit import House, until
from tests.k8s.kubelet import Programs
from tests.trainer.loop.running import QUICK
from tests.trainer.loop.world import FEATURES, Join, slates
from trainer.line import line_of
from trainer.publish import Published, read_published
from trainer.settings import ModelSettings


def lease(house: House) -> Object:
    found = house.kube.get("coordination.k8s.io/v1", "Lease", house.name, "trainer")
    assert found is not None
    spec: Object = found.get("spec", {})
    return spec


def test_a_lost_node_moves_the_trainer_and_fences_the_one_that_comes_back(
    own_cluster: Cluster, kafka: str, namespace: str, data_dir: Path, tmp_path: Path
) -> None:
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=2)
    create_topics(settings)
    line = line_of(FeatureSpec(features=FEATURES), ModelSettings())

    def deltas() -> list[Published]:
        return [each for each in read_published(settings, line=line) if each.header.kind == "rows"]

    for node in ("node-0", "node-1"):
        own_cluster.add_node(node)
    house = House(own_cluster)
    house.live_in()
    told = {
        "bootstrap": kafka,
        "namespace": namespace,
        "partitions": 2,
        "data": str(data_dir),
        "settings": QUICK | {"checkpoints": {"every_s": 0.2}},
    }
    command = [sys.executable, "-m", "tests.trainer.loop.process", json.dumps(told)]
    join = Join(settings)
    with Programs(house, tmp_path, command) as programs:
        until(lambda: lease(house).get("holderIdentity"))
        first = programs.found[lease(house)["holderIdentity"]]
        until(lambda: any(each["event"] == "ready" for each in first.said()))
        [old] = first.children()
        written = write(join, first=0)
        until(deltas)

        first.freeze()
        own_cluster.lose(first.node)
        until(lambda: lease(house)["holderIdentity"] != first.pod, within_s=60)
        second = programs.found[lease(house)["holderIdentity"]]
        assert second.node != first.node
        assert lease(house)["leaseTransitions"] == 2
        until(lambda: any(each["event"] == "ready" for each in second.said()))
        before = deltas()[-1].header.sequence
        written += write(join, first=100)
        until(lambda: deltas()[-1].header.sequence > before)

        # The node is back, and its trainer goes on as if nothing had been.
        os.kill(old, signal.SIGCONT)
        written += write(join, first=200)
        until(lambda: any(each["event"] == "fenced" for each in first.said()))
        until(lambda: taken(deltas()) == written)
        headers = [each.header for each in deltas()]
        assert [each.sequence for each in headers] == list(range(1, headers[-1].sequence + 1))
        os.kill(first.process.pid, signal.SIGCONT)
        assert first.process.wait(20) == LOST
        assert lease(house)["holderIdentity"] == second.pod
    join.close()


def write(join: Join, *, first: int) -> int:
    """Write a hundred slates; answers how many examples they are, revisions counted too."""
    made = list(slates(100, first=first))
    join.write(made)
    return sum(len(sample.emissions) for samples in made for sample in samples)


def taken(published: list[Published]) -> int:
    """Examples that the deltas have learned."""
    return sum(step.examples for each in published for step in each.header.steps)
