"""`everloop bench k8s`: how long the loop takes onto a Kubernetes cluster, and back onto its feet when a node is lost.

On the test control plane, which only a source checkout has: the API server, controllers and scheduler are the real ones, the kubelets
pretend. What a kubelet does (pulling images, starting containers) is not in the figures.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from everloop.benches import Options
from everloop.figures import Report, figure, report
from feedback.errors import UsageError
from k8s.errors import RejectedError
from k8s.render import overlays
from k8s.rollout import plan

if TYPE_CHECKING:
    from tests.k8s.kit import House

_WORK = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"
"""What the trainer's pods run here: how long TensorFlow takes to start is `everloop bench train`'s affair."""


def run(options: Options) -> Report:
    """Measure, `options.runs` times."""
    try:
        import tests.k8s.kit  # noqa: F401 - whether there is a source checkout
    except ImportError as error:
        raise UsageError("bench = 'k8s': only in a source checkout, where tests/k8s has the control plane") from error
    runs = [(_apply(), _failover_s()) for _ in range(options.runs)]
    return report(
        "k8s",
        [
            figure("apply_s", "s", [seconds for (seconds, _, _), _ in runs]),
            figure("second_apply_changes", "", [changes for (_, changes, _), _ in runs]),
            figure("objects_rejected", "", [rejected for (_, _, rejected), _ in runs]),
            figure("failover_s", "s", [seconds for _, seconds in runs]),
        ],
    )


def _apply() -> tuple[float, int, int]:
    """Seconds from an empty namespace to everything ready; changes of a second apply; objects refused, of all overlays."""
    from tests.k8s.controlplane.cluster import Cluster
    from tests.k8s.kit import House, define

    with Cluster() as cluster:
        for name in ("node-0", "node-1"):
            cluster.add_node(name)
        define(cluster)
        house = House(cluster)
        begun = time.monotonic()
        items = house.live_in()
        took = time.monotonic() - begun
        second = len(plan(house.kube, items)) + _changed(house)
        return took, second, sum(_rejected(House(cluster), overlay) for overlay in overlays())


def _changed(house: House) -> int:
    from k8s.rollout import apply

    return len(apply(house.kube, house.rendered(), namespace=house.name, say=house.said.append))


def _rejected(house: House, overlay: str) -> int:
    """Objects of an overlay that the API server refuses, with strict validation."""
    found = 0
    for item in house.rendered(overlay):
        try:
            house.kube.apply(item)
        except RejectedError:
            found += 1
    return found


def _failover_s() -> float:
    """Seconds from a node's loss until a trainer's pod runs on another one and holds the Lease."""
    from tests.k8s.controlplane.cluster import Cluster
    from tests.k8s.kit import House, until
    from tests.k8s.kubelet import Programs

    with Cluster(one_kubelet=False) as cluster, tempfile.TemporaryDirectory() as folder:
        for name in ("node-0", "node-1"):
            cluster.add_node(name)
        house = House(cluster)
        house.live_in()
        with Programs(house, Path(folder), [sys.executable, "-c", _WORK]) as programs:
            until(lambda: _holder(house))
            first = programs.found[_holder(house)]
            until(first.children)
            first.freeze()
            cluster.lose(first.node)
            begun = time.monotonic()
            until(lambda: _holder(house) != first.pod, within_s=120)
            took = time.monotonic() - begun
            if programs.found[_holder(house)].node == first.node:
                raise AssertionError(f"the trainer came back on {first.node}, which is lost")
            return took


def _holder(house: House) -> str:
    lease = house.kube.get("coordination.k8s.io/v1", "Lease", house.name, "trainer") or {}
    return str(lease.get("spec", {}).get("holderIdentity") or "")
