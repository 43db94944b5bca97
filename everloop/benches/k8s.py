"""`everloop bench k8s`: how long the loop takes onto a Kubernetes cluster, and back onto its feet when a node is lost.

On the test control plane, which only a source checkout has: the API server, controllers and scheduler are the real ones, the kubelets
pretend. What a kubelet does (pulling images, starting containers) is not in the figures.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from everloop.benches import Options
from everloop.benches.whole import whole
from everloop.figures import Report, figure, report
from everloop.runtime.supervise import read
from feedback.errors import UsageError
from k8s.errors import RejectedError
from k8s.render import overlays
from k8s.rollout import plan

if TYPE_CHECKING:
    from tests.k8s.kit import House

RATE: Final = 100.0
"""Requests per second while the parts' processor time and memory are measured."""
SECONDS: Final = 30.0
_ROOT: Final = Path(__file__).parents[2]
_PARTS: Final = ("gateway", "streams", "trainer", "follower", "steer", "model-server", "kafka", "redis")
_WORK = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"
"""What the trainer's pods run here: how long TensorFlow takes to start is `everloop bench train`'s affair."""


def run(options: Options) -> Report:
    """Measure, `options.runs` times."""
    if not (_ROOT / "tests" / "k8s" / "kit.py").is_file():
        raise UsageError("bench = 'k8s': only in a source checkout, where tests/k8s has the control plane")
    sys.path.append(str(_ROOT))
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.runs):
        for name, value in (_apply() | {"failover_s": _failover_s()} | _footprint()).items():
            found[name].append(value)
    return report("k8s", [figure(name, _unit(name), values) for name, values in found.items()])


def _unit(name: str) -> str:
    return next((unit for unit in ("s", "MiB", "cores") if name.endswith(f"_{unit.lower()}")), "")


def _apply() -> dict[str, float]:
    """Seconds from an empty namespace to everything ready; changes of a second apply; objects refused, of all overlays."""
    from tests.k8s.controlplane.cluster import Cluster
    from tests.k8s.kit import ANYWHERE, House, define

    with Cluster() as cluster:
        for name in ("node-0", "node-1"):
            cluster.add_node(name)
        define(cluster)
        house = House(cluster)
        begun = time.monotonic()
        items = house.live_in()
        took = time.monotonic() - begun
        second = len(plan(house.kube, items)) + _changed(house)
        extras: list[tuple[str, ...]] = [(), ANYWHERE]
        rejected = sum(_rejected(House(cluster), overlay, extra) for overlay in overlays() for extra in extras)
        return {"apply_s": took, "second_apply_changes": second, "objects_rejected": rejected}


def _changed(house: House) -> int:
    from k8s.rollout import apply

    return len(apply(house.kube, house.rendered(), namespace=house.name, say=house.said.append))


def _rejected(house: House, overlay: str, extra: tuple[str, ...]) -> int:
    """Objects of an overlay, with some components beside its own, that the API server refuses, with strict validation."""
    found = 0
    for item in house.rendered(overlay, components=extra):
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


def _footprint() -> dict[str, float]:
    """What each part takes of a machine at RATE requests a second: what the manifests ask for is made of it."""
    with whole({}) as loop:
        pids = {name: part["pid"] for name, part in read(loop.session.folders)["parts"].items() if name in _PARTS}
        before = {name: _processor_s(pid) for name, pid in pids.items()}
        begun = time.monotonic()
        loop.readers(rate=RATE, seconds=SECONDS)
        took = time.monotonic() - begun
        found = {f"{name}_cores": (_processor_s(pid) - before[name]) / took for name, pid in pids.items()}
        return found | {f"{name}_peak_mib": _peak_mib(pid) for name, pid in pids.items()}


def _processor_s(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _peak_mib(pid: int) -> float:
    """The most memory that a process has held at once."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
