"""One of many: `python -m k8s.lead --lease NAME -- COMMAND…` runs a command only while this pod holds a Lease.

Of several pods that run this, one leads and runs the command, the others stand by. What the Lease gives is that there is always
one, soon. That there is never a second that does harm, it cannot give: a process may stand still for a minute and go on without
knowing. The trainer's deltas are fenced by Kafka, where whoever takes the line over ends every writer before. So a leader that
can't reach the API server goes on: without it nobody else can take the Lease either, and if somebody did, Kafka says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from feedback.errors import EverloopError, UnavailableError
from k8s.api import Kube, connect
from k8s.face import serve
from k8s.objects import Object

LOST = 3
"""Exit status of one that another has taken the Lease from."""

_API = "coordination.k8s.io/v1"

Verdict = Literal["ours", "free", "theirs"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How a Lease is held."""

    lease_s: float = 4.0
    """A holder that has not renewed for so long has lost it."""
    renew_s: float = 1.0
    """Between two looks, and two renewals."""
    call_s: float = 2.0
    """One call to the API server."""
    grace_s: float = 110.0
    """How long the command may take to end when it is told to."""


class Claim:
    """What one candidate makes of a Lease, by a clock of its own: clocks of two machines are never compared."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self._record: tuple[Any, ...] = ()
        self._since = 0.0

    def judge(self, spec: Object, now: float) -> Verdict:
        """Whose the Lease is: `free` when nobody holds it, or its holder has been silent for as long as it promised not to be."""
        holder = spec.get("holderIdentity") or ""
        if holder == self.identity:
            return "ours"
        record = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._record:
            self._record, self._since = record, now
        if not holder or now - self._since > spec.get("leaseDurationSeconds", 0):
            return "free"
        return "theirs"

    def forget(self) -> None:
        """Begin to listen anew: while the API server was away, silence says nothing of the holder."""
        self._record = ()

    def taken(self, spec: Object, terms: Terms, at: datetime) -> Object:
        """The Lease as it is when this candidate holds it."""
        stamp = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        held = {"holderIdentity": self.identity, "renewTime": stamp, "leaseDurationSeconds": round(terms.lease_s)}
        if spec.get("holderIdentity") == self.identity:
            return spec | held
        return spec | held | {"acquireTime": stamp, "leaseTransitions": spec.get("leaseTransitions", 0) + 1}


class Lead:
    """One candidate and its command."""

    def __init__(
        self, kube: Kube, *, namespace: str, lease: str, identity: str, command: Sequence[str], terms: Terms
    ) -> None:
        self._kube, self._where, self._command, self._terms = kube, (namespace, lease), command, terms
        self._claim = Claim(identity)
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.verdict: Verdict | None = None
        self.turned = time.monotonic()

    @property
    def leading(self) -> bool:
        """Whether the command runs."""
        return self._process is not None

    def stop(self) -> None:
        """Let the command end, and hand the Lease over."""
        self._stop.set()

    def run(self) -> int:
        """Lead or stand by until told to stop, the command ends, or the Lease is lost; answers the exit status."""
        while not self._stop.is_set():
            if self._turn() == "theirs" and self._process is not None:
                # At once: it must not save, nor publish, what another may be doing by now.
                say("lost", level="warning")
                self._process.kill()
                self._process.wait()
                self._process = None
                return LOST
            if (status := self._pause()) is not None:
                self._release()
                return status
        return self._end()

    def _turn(self) -> Verdict | None:
        """Look at the Lease, and take or renew it; None: unknown."""
        try:
            self.verdict = self._look()
        except EverloopError as error:
            self._claim.forget()
            say("lease_unknown", level="warning", leading=self.leading, reason=str(error))
            return None
        finally:
            self.turned = time.monotonic()
        if self.verdict == "ours" and self._process is None:
            say("leads", identity=self._claim.identity)
            self._process = subprocess.Popen(self._command)
        return self.verdict

    def _look(self) -> Verdict:
        found = self._kube.get(_API, "Lease", *self._where)
        if found is None:
            raise UnavailableError(f"there is no Lease {self._where[1]} in namespace {self._where[0]}")
        verdict = self._claim.judge(found.get("spec", {}), time.monotonic())
        if verdict != "theirs":
            found["spec"] = self._claim.taken(found.get("spec", {}), self._terms, datetime.now(UTC))
            self._put(found)
        return verdict if verdict == "theirs" else "ours"

    def _put(self, item: Object) -> None:
        """Write the Lease; it carries the version that was read, so that of two that write one is refused."""
        namespace, name = self._where
        self._kube.call("PUT", f"/apis/{_API}/namespaces/{namespace}/leases/{name}", body=item)

    def _pause(self) -> int | None:
        """Wait for the next look; the command's exit status, if it ends meanwhile."""
        if self._process is None:
            self._stop.wait(self._terms.renew_s)
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(self._terms.renew_s)
        return None

    def _end(self) -> int:
        """Tell the command to end and hold the Lease until it has: nobody begins before it has saved."""
        status = 0
        if self._process is not None:
            self._process.terminate()
            deadline = time.monotonic() + self._terms.grace_s
            while (ended := self._pause()) is None and time.monotonic() < deadline:
                if self._turn() == "theirs":
                    break
            if ended is None:
                self._process.kill()
            status = self._process.wait()
        self._release()
        return status

    def _release(self) -> None:
        """Say that nobody holds the Lease, so that nobody waits for it to run out."""
        self._process = None
        with contextlib.suppress(EverloopError):
            found = self._kube.get(_API, "Lease", *self._where)
            if found is not None and found.get("spec", {}).get("holderIdentity") == self._claim.identity:
                found["spec"]["holderIdentity"] = ""
                self._put(found)


def say(event: str, *, level: str = "info", **fields: object) -> None:
    """Write one JSON line to stderr."""
    line = {"time": datetime.now(UTC).isoformat(), "level": level, "part": "lead", "event": event} | fields
    print(json.dumps(line), file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """Run a command under a Lease, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m k8s.lead", description=__doc__)
    parser.add_argument("--lease", required=True, help="name of the Lease, which must exist")
    parser.add_argument("--namespace", default=os.environ.get("POD_NAMESPACE", ""), help="default: $POD_NAMESPACE")
    parser.add_argument("--identity", default=os.environ.get("POD_NAME", ""), help="default: $POD_NAME")
    parser.add_argument(
        "--health", required=True, help="URL at which the command answers when it is ready; beside it: /metrics"
    )
    parser.add_argument("--port", type=int, default=9105, help="of /ready, /live and /metrics")
    parser.add_argument("command", nargs="+", help="what to run")
    options = parser.parse_args(argv)
    terms = Terms()
    try:
        kube, namespace = connect(patience_s=0.0, call_s=terms.call_s)
        lead = Lead(
            kube,
            namespace=options.namespace or namespace,
            lease=options.lease,
            identity=options.identity,
            command=options.command,
            terms=terms,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: lead.stop())
        server = serve(lead, lease=options.lease, health=options.health, port=options.port)
        try:
            return lead.run()
        finally:
            server.shutdown()
    except EverloopError as error:
        say("ended", level="error", reason=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
