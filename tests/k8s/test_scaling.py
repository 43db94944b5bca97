"""The autoscalers: on metrics that a test feeds through the same API as prometheus-adapter does."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml
from kubernetes import client

from k8s.objects import Object, key
from k8s.render import FOLDER, Wanted, render
from tests.k8s.controlplane.cluster import Cluster
from tests.k8s.kit import House, until

IN_FLIGHT, LAG = "everloop_http_requests_in_flight", "everloop_join_lag"
APIS = {
    "custom.metrics.k8s.io/v1beta2": (f"pods/{IN_FLIGHT}", "MetricValueList"),
    "external.metrics.k8s.io/v1beta1": (LAG, "ExternalMetricValueList"),
}
"""The APIs that an adapter serves, and for each the one metric and the kind of its answers."""


class Adapter:
    """Answers custom and external metrics, for each namespace what the test says."""

    def __init__(self, cluster: Cluster) -> None:
        self.in_flight: dict[str, int] = {}
        """By namespace: of each pod of the gateway."""
        self.lag: dict[str, int] = {}
        """By namespace: of the whole join."""
        adapter, core = self, client.CoreV1Api(cluster.client())

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(adapter.answer(core, self.path.partition("?")[0])).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cluster.authority, cluster.authority.with_suffix(".key"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, core: client.CoreV1Api, path: str) -> dict[str, Any]:
        group = path.removeprefix("/apis/")
        if group in APIS:
            name, kind = APIS[group]
            served = {"name": name, "namespaced": True, "kind": kind, "verbs": ["get"], "singularName": ""}
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": [served]}
        found = re.fullmatch(r"/apis/(?P<api>[^/]+/[^/]+)/namespaces/(?P<namespace>[^/]+)/(?P<rest>.*)", path)
        if found is None:
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        namespace = found["namespace"]
        stamp = "2026-01-01T00:00:00Z"
        if found["rest"] == LAG:
            items = [
                {"metricName": LAG, "metricLabels": {}, "timestamp": stamp, "value": str(self.lag.get(namespace, 0))}
            ]
            return {"kind": "ExternalMetricValueList", "apiVersion": found["api"], "metadata": {}, "items": items}
        pods = core.list_namespaced_pod(namespace, label_selector="app.kubernetes.io/component=gateway").items
        values = [
            {
                "describedObject": {
                    "kind": "Pod",
                    "namespace": namespace,
                    "name": pod.metadata.name,
                    "apiVersion": "v1",
                },
                "metric": {"name": IN_FLIGHT},
                "timestamp": stamp,
                "value": str(self.in_flight.get(namespace, 0)),
            }
            for pod in pods
        ]
        return {"kind": "MetricValueList", "apiVersion": found["api"], "metadata": {}, "items": values}


@pytest.fixture(scope="module")
def adapter(cluster: Cluster) -> Iterator[Adapter]:
    """A metrics server, registered with the API server as an adapter is."""
    made = Adapter(cluster)
    core, registry = client.CoreV1Api(cluster.client()), client.ApiregistrationV1Api(cluster.client())
    service = {"metadata": {"name": "adapter"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
    core.create_namespaced_service("kube-system", service)
    for api in APIS:
        group, _, version = api.partition("/")
        spec = {
            "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": True, "service": {"namespace": "kube-system", "name": "adapter", "port": made.port},
        }  # fmt: skip
        registry.create_api_service({"metadata": {"name": f"{version}.{group}"}, "spec": spec})
    yield made
    for api in APIS:
        group, _, version = api.partition("/")
        registry.delete_api_service(f"{version}.{group}")
    made.close()


def scalers(items: list[Object]) -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in items if item["kind"] == "HorizontalPodAutoscaler"}


@pytest.fixture
def scaled(house: House, adapter: Adapter) -> House:
    """What `production` scales, with autoscalers that don't wait for minutes."""
    items = house.rendered("production")
    for each in scalers(items).values():
        for direction in ("scaleUp", "scaleDown"):
            soon = {"type": "Pods", "value": 100, "periodSeconds": 1}
            each["spec"]["behavior"][direction] = {"stabilizationWindowSeconds": 0, "policies": [soon]}
    for item in items:
        if item["kind"] in ("ServiceAccount", "Service", "HorizontalPodAutoscaler", "ConfigMap", "StatefulSet"):
            house.kube.apply(item)
    return house


def test_the_gateway_grows_with_the_requests_in_flight_and_shrinks_again_between_its_bounds(
    scaled: House, adapter: Adapter
) -> None:
    until(lambda: len(scaled.pods("gateway")) == 3, what="the least")
    adapter.in_flight[scaled.name] = 24
    until(lambda: len(scaled.pods("gateway")) > 4)
    adapter.in_flight[scaled.name] = 1000
    until(lambda: len(scaled.pods("gateway")) == 12, what="the most")
    adapter.in_flight[scaled.name] = 1
    until(lambda: len(scaled.pods("gateway")) == 3)


def test_the_join_grows_with_its_lag_but_never_beyond_its_partitions(scaled: House, adapter: Adapter) -> None:
    until(lambda: len(scaled.pods("streams")) == 2, what="the least")
    adapter.lag[scaled.name] = 95_000
    until(lambda: len(scaled.pods("streams")) == 5)
    adapter.lag[scaled.name] = 10_000_000
    until(lambda: len(scaled.pods("streams")) == 8, what="one for each partition")
    adapter.lag[scaled.name] = 0
    until(lambda: len(scaled.pods("streams")) == 2)


def test_an_apply_leaves_the_number_to_the_autoscaler(scaled: House, adapter: Adapter) -> None:
    adapter.lag[scaled.name] = 95_000
    until(lambda: len(scaled.pods("streams")) == 5)
    [streams] = [item for item in scaled.rendered("production") if str(key(item)) == "StatefulSet streams"]
    assert scaled.kube.apply(streams)["spec"]["replicas"] == 5


def test_the_metrics_of_the_autoscalers_are_those_of_the_adapters_rules() -> None:
    rules = yaml.safe_load((FOLDER / "adapter" / "values.yaml").read_text())["rules"]
    named = {kind: {rule["name"]["as"] for rule in rules[kind]} for kind in ("custom", "external")}
    found = scalers(render(Wanted(overlay="production")))
    assert named == {"custom": {IN_FLIGHT}, "external": {LAG}}
    assert found["gateway"]["spec"]["metrics"][0]["pods"]["metric"]["name"] == IN_FLIGHT
    assert found["streams"]["spec"]["metrics"][0]["external"]["metric"]["name"] == LAG
