"""What tests on a cluster have in common: waiting, a namespace with the loop in it, and the command line."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from everloop.cli import run
from k8s.api import Kube
from k8s.objects import Object
from k8s.render import Wanted, render
from k8s.rollout import apply, pods_by_part, wait
from tests.k8s.controlplane.cluster import Cluster

CRDS = Path(__file__).parent / "crds"
ANYWHERE = ("bucket", "gpu", "monitoring", "newsroom")
"""Components that every overlay can take in, and all at once."""
KEYS = '[{name = "shop", sha256 = "' + "0" * 64 + '"}]'


def until(true: Callable[[], object], *, within_s: float = 60.0, what: str = "it did not come") -> None:
    """Wait for something; it must come."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def define(cluster: Cluster, operators: str = "*") -> None:
    """Teach a cluster the kinds of the operators that the overlays lean on."""
    extensions = client.ApiextensionsV1Api(cluster.client())
    for path in sorted(CRDS.glob(f"{operators}.yaml")):
        for definition in yaml.safe_load_all(path.read_text()):
            extensions.create_custom_resource_definition(definition)
            until(partial(_established, extensions, definition["metadata"]["name"]))


def _established(extensions: client.ApiextensionsV1Api, name: str) -> bool:
    conditions = extensions.read_custom_resource_definition(name).status.conditions or ()
    return any(each.type == "Established" and each.status == "True" for each in conditions)


@dataclass
class Shell:
    """`everloop k8s …`, as a person types it, on one cluster."""

    cluster: Cluster
    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]

    def __call__(self, *words: str, user: str = "admin") -> tuple[int, str, str]:
        """Run a command line; answers its exit status, output and complaints."""
        location = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
        self.monkeypatch.setattr(location, str(self.cluster.kubeconfig(user)))
        status = run(["k8s", *words])
        out, err = self.capfd.readouterr()
        return status, out, err


@dataclass
class House:
    """One namespace of a cluster, with what an administrator puts there before the loop comes."""

    cluster: Cluster
    name: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kube = Kube(self.cluster.client(), patience_s=60.0, say=self.said.append)
        core = self.core
        core.create_namespace({"metadata": {"name": self.name}})
        self.secret("gateway-keys", keys=KEYS)
        self.secret("gateway-scrape", key="k")
        self.secret("newsroom-key", key="k")
        self.secret("bucket", uri="memory:///everloop")
        self.secret("kafka", password="p", **{"ca.crt": "c"})
        self.secret("redis", url="redis://elsewhere:6379/0")

    @property
    def core(self) -> client.CoreV1Api:
        """The official client."""
        return client.CoreV1Api(self.cluster.client())

    def secret(self, name: str, **values: str) -> None:
        """Create a Secret."""
        data = {each: base64.b64encode(value.encode()).decode() for each, value in values.items()}
        self.core.create_namespaced_secret(self.name, {"metadata": {"name": name}, "data": data})

    def rendered(self, overlay: str = "single", **wanted: Any) -> list[Object]:
        """The objects of an overlay, for this namespace."""
        return render(Wanted(overlay=overlay, namespace=self.name, **wanted))

    def live_in(self, items: list[Object] | None = None, *, within_s: float = 60.0) -> list[Object]:
        """Apply objects (by default those of `single`) and wait until everything is ready."""
        items = self.rendered() if items is None else items
        apply(self.kube, items, namespace=self.name, say=self.said.append)
        wait(self.kube, items, namespace=self.name, timeout_s=within_s, say=self.said.append)
        return items

    def pods(self, part: str) -> list[Object]:
        """The pods of a part."""
        return pods_by_part(self.kube, self.name)[part]

    def addresses(self, service: str) -> set[str]:
        """The addresses to which a Service leads."""
        discovery = client.DiscoveryV1Api(self.cluster.client())
        slices = discovery.list_namespaced_endpoint_slice(
            self.name, label_selector=f"kubernetes.io/service-name={service}"
        )
        ready = [each for piece in slices.items for each in piece.endpoints or () if each.conditions.ready]
        return {address for each in ready for address in each.addresses}
