"""All parts of a control plane together: started in order, stopped in the reverse one, killed and started again when a test says so."""

from __future__ import annotations

import secrets
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from everloop.runtime.ports import LOOPBACK, free_ports
from everloop.runtime.spawn import spawn, stop
from tests.k8s.controlplane.build import CONTROLPLANE

STAGES = Path(__file__).with_name("stages.yaml")
_START_S = 90.0
_USERS = {
    "admin": ("admin", "system:masters"),
    "kcm": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "alice": ("alice", "people"),
}
"""Who has a token, by its kubeconfig's name: user and group. Alice may do nothing until a test binds a role to her."""


_GRACE_S = {True: 40, False: 6}
"""After which silence a node counts as lost, by whether kubelets are shared: where nodes get lost, nobody wants to wait as long as
real clusters do. A kubelet speaks up several times within it."""


@dataclass
class Cluster:
    """One control plane; `with Cluster() as cluster`."""

    forwards: dict[int, int] = field(default_factory=dict)
    """Port of a pod to port of this machine, for `port-forward`."""
    one_kubelet: bool = True
    """Whether all nodes share one kubelet process; if not, each node has its own, and can be lost."""

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="controlplane-"))
        self.binary = CONTROLPLANE.binary()
        self._etcd, self._peer, self._api, self._kubelet = free_ports(4)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tokens = {name: secrets.token_hex(16) for name in _USERS}
        self._clients: dict[str, client.ApiClient] = {}
        self._ending = threading.Event()
        self._storage = threading.Thread(target=self._provide, name="storage", daemon=True)
        self.kubelets: dict[str, list[str]] = {}

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- life

    def start(self) -> None:
        """Start everything; returns when pods can be created."""
        self._write_files()
        peer = f"http://{LOOPBACK}:{self._peer}"
        self._run(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://{LOOPBACK}:{self._etcd}",
            f"--advertise-client-urls=http://{LOOPBACK}:{self._etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )
        self._until("etcd", lambda: _status(f"http://{LOOPBACK}:{self._etcd}/health") == 200)
        self.start_api()
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig('kcm')}",
            "--leader-elect=false",
            "--use-service-account-credentials",
            "--secure-port=0",
            f"--service-account-private-key-file={self.folder}/sa.key",
            f"--root-ca-file={self.folder}/pki/apiserver.crt",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--node-monitor-period=1s",
            f"--node-monitor-grace-period={_GRACE_S[self.one_kubelet]}s",
            "--horizontal-pod-autoscaler-sync-period=1s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=0s",
        )
        self._run(
            "kube-scheduler", f"--kubeconfig={self.kubeconfig('scheduler')}", "--leader-elect=false", "--secure-port=0"
        )
        if self.one_kubelet:
            self._kwok("kwok", self._kubelet, "--manage-all-nodes=true")
        core = client.CoreV1Api(self.client())
        self._until("default service account", lambda: bool(core.read_namespaced_service_account("default", "default")))
        self._storage.start()

    def close(self) -> None:
        """Stop everything and remove what it wrote."""
        self._ending.set()
        # Nothing of it is needed again, so nobody is asked to end well.
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            stop(process, timeout_s=5.0)
        if self._storage.is_alive():
            self._storage.join()
        for each in self._clients.values():
            each.rest_client.pool_manager.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_api(self) -> None:
        """Start the API server and wait until it is ready."""
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://{LOOPBACK}:{self._etcd}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={self._api}",
            f"--cert-dir={self.folder}/pki",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--api-audiences=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder}/sa.pub",
            f"--service-account-signing-key-file={self.folder}/sa.key",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--allow-privileged",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=InternalIP",
        )
        ready = f"https://{LOOPBACK}:{self._api}/readyz"
        self._until("kube-apiserver", lambda: _status(ready, self._tokens["admin"]) == 200)

    def kill_api(self) -> None:
        """Kill the API server as a crash would."""
        process = self._processes.pop("kube-apiserver")
        process.kill()
        stop(process, timeout_s=5.0)

    def lose(self, node: str) -> None:
        """Kill a node's kubelet: nothing of it is heard any more."""
        process = self._processes.pop(f"kwok-{node}")
        process.kill()
        stop(process, timeout_s=5.0)

    # ---- what a test does with it

    @property
    def host(self) -> str:
        """URL of the API server."""
        return f"https://{LOOPBACK}:{self._api}"

    @property
    def authority(self) -> Path:
        """The certificate that the API server's own is checked with."""
        return self.folder / "pki" / "apiserver.crt"

    def client(self, user: str = "admin", *, token: str = "") -> client.ApiClient:
        """A client that speaks as a user, or with a token."""
        token = token or self._tokens[user]
        if token not in self._clients:
            settings = client.Configuration(host=self.host)
            settings.ssl_ca_cert = str(self.authority)
            settings.api_key = {"authorization": f"Bearer {token}"}
            self._clients[token] = client.ApiClient(settings)
        return self._clients[token]

    def kubeconfig(self, user: str = "admin") -> Path:
        """A kubeconfig of a user."""
        path = self.folder / f"{user}.kubeconfig"
        path.write_text(yaml.safe_dump(_kubeconfig(self.host, self.authority, self._tokens[user])))
        return path

    def kubectl(self, *arguments: str, user: str = "admin") -> subprocess.CompletedProcess[str]:
        """Run kubectl."""
        command = [str(self.binary), "kubectl", f"--kubeconfig={self.kubeconfig(user)}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def add_node(self, name: str, *, cpu: int = 64, memory: str = "256Gi", gpus: int = 0, taint: str = "") -> None:
        """Add a node and wait until it is ready; `taint`: key of a NoSchedule taint."""
        capacity = {"cpu": str(cpu), "memory": memory, "pods": "1000"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
        spec = {"taints": [{"key": taint, "effect": "NoSchedule", "value": "present"}]} if taint else {}
        node = {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": spec,
            "status": {"capacity": capacity, "allocatable": capacity},
        }
        core = client.CoreV1Api(self.client())
        core.create_node(node)
        if not self.one_kubelet:
            [port] = free_ports(1)
            self._kwok(f"kwok-{name}", port, f"--manage-single-node={name}")
        self._until(f"node {name}", lambda: _is_ready(core.read_node(name)))

    # ---- inside

    def _run(self, name: str, *arguments: str, as_name: str = "") -> None:
        log = (self.folder / f"{as_name or name}.log").open("ab")
        with log:
            self._processes[as_name or name] = spawn([str(self.binary), name, *arguments], stdout=log, stderr=log)

    def _kwok(self, name: str, port: int, *which: str) -> None:
        self._run(
            "kwok",
            f"--kubeconfig={self.kubeconfig()}",
            f"--config={self.folder}/kwok.yaml",
            *which,
            f"--node-ip={LOOPBACK}",
            f"--node-port={port}",
            f"--server-address={LOOPBACK}:{port}",
            "--cidr=10.9.0.0/16",
            f"--tls-cert-file={self.folder}/pki/apiserver.crt",
            f"--tls-private-key-file={self.folder}/pki/apiserver.key",
            f"--node-lease-duration-seconds={40 if self.one_kubelet else 4}",
            as_name=name,
        )

    def _until(self, what: str, true: Any) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} has ended: {self._said(name)}")
            try:
                if true():
                    return
            except (OSError, ApiException):
                pass
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} was not there after {_START_S:g} s: {self._said('kube-apiserver')}")
            time.sleep(0.05)

    def _said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def _write_files(self) -> None:
        secret, public = self.folder / "sa.key", self.folder / "sa.pub"
        subprocess.run(["openssl", "genrsa", "-out", secret, "2048"], check=True, capture_output=True)
        subprocess.run(["openssl", "rsa", "-in", secret, "-pubout", "-out", public], check=True, capture_output=True)
        lines = [f'{self._tokens[name]},{user},{name},"{group}"' for name, (user, group) in _USERS.items()]
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        stages = [each for each in yaml.safe_load_all(STAGES.read_text()) if each]
        (self.folder / "kwok.yaml").write_text(yaml.safe_dump_all([*stages, *self._pretended()]))

    def _pretended(self) -> Sequence[dict[str, Any]]:
        """What pods say and where their ports lead."""
        logs = self.folder / "pod.log"
        logs.write_text("2026-01-01T00:00:00.000000000Z stdout F a line of a pod\n")
        kinds: list[tuple[str, dict[str, Any]]] = [("ClusterLogs", {"logs": [{"logsFile": str(logs)}]})]
        if self.forwards:
            forwards = [
                {"ports": [port], "target": {"address": LOOPBACK, "port": to}} for port, to in self.forwards.items()
            ]
            kinds.append(("ClusterPortForward", {"forwards": forwards}))
        return [
            {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": {"name": kind.lower()}, "spec": spec}
            for kind, spec in kinds
        ]

    def _provide(self) -> None:
        """Make a volume for each claim that waits: what a cluster's storage does."""
        core = client.CoreV1Api(self.client())
        while not self._ending.wait(0.05):
            try:
                for claim in core.list_persistent_volume_claim_for_all_namespaces().items:
                    if claim.status.phase == "Pending" and not claim.spec.volume_name:
                        _make_volume(core, claim)
            # While a test has the API server down, and where the volume is there already.
            except (OSError, ApiException, client.rest.urllib3.exceptions.HTTPError):
                continue


def _make_volume(core: client.CoreV1Api, claim: Any) -> None:
    name = f"pv-{claim.metadata.uid}"
    spec = {
        "accessModes": claim.spec.access_modes,
        "capacity": claim.spec.resources.requests,
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": claim.metadata.namespace, "name": claim.metadata.name, "uid": claim.metadata.uid},
        "hostPath": {"path": f"/stand-in/{name}"},
    }
    try:
        core.create_persistent_volume({"metadata": {"name": name}, "spec": spec})
    except ApiException as error:
        if error.status != 409:
            raise


def _is_ready(node: Any) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in node.status.conditions or ())


def _kubeconfig(host: str, authority: Path, token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": host, "certificate-authority": str(authority)}}],
        "users": [{"name": "test", "user": {"token": token}}],
    }


def _status(url: str, token: str = "") -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    context = ssl._create_unverified_context() if url.startswith("https") else None
    try:
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
