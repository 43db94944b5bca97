"""What a kubelet does and kwok only pretends: run a pod's program, and probe it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from k8s.objects import Object
from k8s.ready import is_ready
from tests.k8s.kit import House

PROBED = "stand-in/probed"
"""Annotation of a pod whose readiness is not pretended."""


@dataclass
class Program:
    """The trainer's container of one pod, as a process of this machine."""

    pod: str
    node: str
    process: subprocess.Popen[bytes]
    log: Path

    def children(self) -> list[int]:
        """Processes that it has started."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(each) for each in path.read_text().split()] if path.exists() else []

    def freeze(self) -> None:
        """Stop it in the middle of what it does, with all that it has started: a node that nobody hears."""
        for each in (self.process.pid, *self.children()):
            os.kill(each, signal.SIGSTOP)

    def said(self) -> list[dict[str, Any]]:
        """The JSON lines that it has written."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def close(self) -> None:
        """End it, with all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Programs:
    """Runs, for each trainer pod that runs, `k8s.lead` as its manifest says, with the pod's own identity and rights."""

    def __init__(self, house: House, folder: Path, command: Sequence[str], *, pace_s: float = 0.1) -> None:
        self.found: dict[str, Program] = {}
        self._house, self._folder, self._command, self._pace_s = house, folder, command, pace_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="programs", daemon=True)

    def __enter__(self) -> Programs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        for each in self.found.values():
            each.close()

    def _run(self) -> None:
        while not self._ending.wait(self._pace_s):
            for pod in self._house.pods("trainer"):
                name = pod["metadata"]["name"]
                if pod.get("status", {}).get("phase") == "Running" and name not in self.found:
                    self.found[name] = self._start(pod)

    def _start(self, pod: Object) -> Program:
        name = pod["metadata"]["name"]
        [container] = pod["spec"]["containers"]
        told = [each if each != "9105" else "0" for each in container["command"]]
        assert told[:3] == ["python", "-m", "k8s.lead"] and told[-1] == "--"
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *told[1:], *self._command],
                stdout=output,
                stderr=output,
                env=os.environ
                | {"POD_NAME": name, "POD_NAMESPACE": self._house.name, "KUBECONFIG": str(self._kubeconfig(pod))},
                start_new_session=True,
            )
        return Program(name, pod["spec"]["nodeName"], process, log)

    def _kubeconfig(self, pod: Object) -> Path:
        """What a pod has in its own file system: the authority and its service account's token."""
        account = pod["spec"]["serviceAccountName"]
        made = self._house.core.create_namespaced_service_account_token(
            account, self._house.name, {"spec": {"audiences": []}}
        )
        cluster = self._house.cluster
        path = self._folder / f"{pod['metadata']['name']}.kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "current-context": "pod",
                    "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod"}}],
                    "clusters": [
                        {
                            "name": "pod",
                            "cluster": {"server": cluster.host, "certificate-authority": str(cluster.authority)},
                        }
                    ],
                    "users": [{"name": "pod", "user": {"token": made.status.token}}],
                }
            )
        )
        return path


class Prober:
    """Carries a pod's readiness probes out against processes of this machine, and writes what they say into the pod's status."""

    def __init__(self, house: House, part: str, ports: Mapping[str, Callable[[], int]]) -> None:
        """`ports`: for each container with an HTTP probe, where its process listens really."""
        self._house, self._part, self._ports = house, part, ports
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)
        self.probes = 0

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def round(self) -> None:
        """Wait until every pod was probed again, from now on."""
        before = self.probes
        deadline = time.monotonic() + 30
        while self.probes < before + 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _run(self) -> None:
        while not self._ending.wait(0.05):
            for pod in self._house.pods(self._part):
                if pod["status"].get("phase") == "Running":
                    self._tell(pod, {each["name"]: self._ready(each) for each in pod["spec"]["containers"]})
            self.probes += 1

    def _ready(self, container: Object) -> bool:
        probe = container.get("readinessProbe")
        if probe is None:
            return True
        named = probe["httpGet"]["port"]
        assert named in {port["name"] for port in container["ports"]}
        url = f"http://127.0.0.1:{self._ports[container['name']]()}{probe['httpGet']['path']}"
        try:
            with urllib.request.urlopen(url, timeout=probe.get("timeoutSeconds", 1)) as answer:
                return bool(answer.status < 400)
        except (urllib.error.URLError, OSError):
            return False

    def _tell(self, pod: Object, ready: Mapping[str, bool]) -> None:
        whole = all(ready.values())
        if is_ready(pod) == whole:
            return
        statuses = [each | {"ready": ready[each["name"]]} for each in pod["status"]["containerStatuses"]]
        conditions = [
            each | {"status": str(whole)} if each["type"] in ("Ready", "ContainersReady") else each
            for each in pod["status"]["conditions"]
        ]
        patch = {"status": {"containerStatuses": statuses, "conditions": conditions}}
        name = pod["metadata"]["name"]
        client.CoreV1Api(self._house.cluster.client()).patch_namespaced_pod_status(name, self._house.name, patch)
