"""The Lease: who holds it when, and that what runs under it ends and begins with it."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from k8s.api import Kube
from k8s.face import serve
from k8s.lead import LOST, Claim, Lead, Terms
from tests.k8s.controlplane.cluster import Cluster
from tests.k8s.kit import House, until

FAST = Terms(lease_s=1.0, renew_s=0.1, call_s=1.0, grace_s=10.0)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORK = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); open(sys.argv[1], 'w').close(); time.sleep(600)"


def test_a_lease_is_free_when_nobody_holds_it_or_its_holder_has_been_silent_for_its_duration() -> None:
    claim = Claim("b")
    assert claim.judge({}, 0.0) == "free"
    held = {"holderIdentity": "a", "renewTime": "1", "leaseDurationSeconds": 4}
    assert claim.judge(held, 10.0) == "theirs"
    assert claim.judge(held, 13.9) == "theirs"
    assert claim.judge(held | {"renewTime": "2"}, 14.0) == "theirs"
    assert claim.judge(held | {"renewTime": "2"}, 17.9) == "theirs"
    assert claim.judge(held | {"renewTime": "2"}, 18.1) == "free"
    assert claim.judge(held | {"holderIdentity": ""}, 18.2) == "free"
    assert Claim("a").judge(held, 1e9) == "ours"


def test_silence_while_nobody_could_be_heard_does_not_count() -> None:
    claim = Claim("b")
    held = {"holderIdentity": "a", "renewTime": "1", "leaseDurationSeconds": 4}
    assert claim.judge(held, 10.0) == "theirs"
    claim.forget()
    assert claim.judge(held, 100.0) == "theirs"
    assert claim.judge(held, 104.1) == "free"


def test_a_renewal_counts_no_transition_and_a_takeover_counts_one() -> None:
    spec = Claim("a").taken({}, FAST, NOW)
    assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == ("a", 1, 1)
    renewed = Claim("a").taken(spec, FAST, NOW.replace(hour=1))
    assert (renewed["leaseTransitions"], renewed["acquireTime"]) == (1, spec["acquireTime"])
    assert renewed["renewTime"] == "2026-01-01T01:00:00.000000Z"
    assert Claim("b").taken(renewed, FAST, NOW)["leaseTransitions"] == 2


class Candidate:
    """A lead in a thread of this process, and the process that it runs."""

    def __init__(self, house: House, name: str, folder: Path, *, terms: Terms = FAST, work: str = WORK) -> None:
        self.mark = folder / name
        self.status: int | None = None
        self.lead = Lead(
            Kube(house.cluster.client(), patience_s=0.0, call_s=terms.call_s),
            namespace=house.name,
            lease="trainer",
            identity=name,
            command=[sys.executable, "-c", work, str(self.mark)],
            terms=terms,
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.status = self.lead.run()

    @property
    def works(self) -> bool:
        return self.mark.exists()

    def end(self) -> int | None:
        self.lead.stop()
        self._thread.join(20)
        return self.status


@contextmanager
def candidates(house: House, folder: Path, *names: str) -> Iterator[list[Candidate]]:
    """Candidates, the first of which leads."""
    found: list[Candidate] = []
    try:
        for name in names:
            found.append(Candidate(house, name, folder))
            until(lambda: found[0].works)
        yield found
    finally:
        for each in found:
            each.end()


def holder(house: House) -> str:
    lease = house.kube.get("coordination.k8s.io/v1", "Lease", house.name, "trainer")
    assert lease is not None
    return str(lease.get("spec", {}).get("holderIdentity", ""))


@pytest.fixture
def leased(house: House) -> House:
    """A namespace with the trainer's Lease."""
    for item in house.rendered():
        if item["kind"] == "Lease":
            house.kube.apply(item)
    return house


def test_of_two_one_works_and_the_other_takes_over_when_it_ends(leased: House, tmp_path: Path) -> None:
    with candidates(leased, tmp_path, "a", "b") as (first, second):
        until(lambda: second.lead.verdict == "theirs")
        assert first.lead.leading and not second.lead.leading and not second.works
        assert first.end() == 0
        until(lambda: second.works)
        assert holder(leased) == "b"


def test_one_that_has_lost_the_lease_ends_its_work_at_once(leased: House, tmp_path: Path) -> None:
    with candidates(leased, tmp_path, "a") as (first,):
        [lease] = [item for item in leased.rendered() if item["kind"] == "Lease"]
        leased.kube.apply(lease | {"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 60}}, force=True)
        until(lambda: first.status is not None)
        assert first.status == LOST
    assert holder(leased) == "thief"


def test_work_that_ends_gives_the_lease_back_with_its_status(leased: House, tmp_path: Path) -> None:
    ending = Candidate(leased, "a", tmp_path, work="import sys; sys.exit(7)")
    until(lambda: ending.status is not None)
    assert (ending.status, holder(leased)) == (7, "")


def test_work_that_does_not_end_when_told_is_killed_after_its_grace(leased: House, tmp_path: Path) -> None:
    deaf = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w').close(); time.sleep(600)"
    candidate = Candidate(leased, "a", tmp_path, terms=replace(FAST, grace_s=0.3), work=deaf)
    until(lambda: candidate.works)
    assert candidate.end() == -signal.SIGKILL
    assert holder(leased) == ""


PAGE = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"work_done 7.0\\n")

with HTTPServer(("127.0.0.1", 0), Pages) as server:
    open(sys.argv[1] + ".new", "w").write(str(server.server_port))
    __import__("os").rename(sys.argv[1] + ".new", sys.argv[1])
    server.serve_forever()
"""


def seen(candidate: Candidate, port: int, page: str) -> tuple[int, str]:
    """What Prometheus, or a probe, gets from a candidate whose command listens on a port."""
    server = serve(candidate.lead, lease="trainer", health=f"http://127.0.0.1:{port}/health", port=0, host="127.0.0.1")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{page}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    finally:
        server.shutdown()
        server.server_close()


def test_one_that_stands_by_is_scraped_and_says_so_and_one_that_leads_passes_its_commands_metrics_on(
    leased: House, tmp_path: Path
) -> None:
    first = Candidate(leased, "a", tmp_path, work=PAGE)
    started = [first]
    try:
        until(lambda: first.works)
        second = Candidate(leased, "b", tmp_path, work=PAGE)
        started.append(second)
        until(lambda: second.lead.verdict == "theirs")
        port = int(first.mark.read_text())
        status, text = seen(second, port, "/metrics")
        assert (status, seen(second, port, "/ready")[0]) == (200, 200)
        assert 'everloop_lead_standby{lease="trainer"} 1.0' in text and "work_done" not in text
        status, text = seen(first, port, "/metrics")
        assert (status, seen(first, port, "/ready")[0]) == (200, 200)
        assert 'everloop_lead_standby{lease="trainer"} 0.0' in text and "work_done 7.0" in text
        # It leads, and what it runs does not answer: that is what "down" means.
        assert (seen(first, 1, "/metrics")[0], seen(first, 1, "/ready")[0], seen(first, 1, "/live")[0]) == (
            503,
            503,
            200,
        )
        first.end()
        until(lambda: second.works)
        assert "work_done 7.0" in seen(second, int(second.mark.read_text()), "/metrics")[1]
    finally:
        for each in started:
            each.end()


# A connection reset between its opening and its TLS handshake is left open by Python's own ssl module until it is collected:
# `SSLSocket._create` raises what it read without closing what it had detached.
@pytest.mark.filterwarnings("ignore:.*unclosed <ssl:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*<ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_a_leader_goes_on_while_the_api_server_is_away(own_cluster: Cluster, tmp_path: Path) -> None:
    house = House(own_cluster)
    for item in house.rendered():
        if item["kind"] == "Lease":
            house.kube.apply(item)
    with candidates(house, tmp_path, "a", "b") as (first, second):
        until(lambda: second.lead.verdict == "theirs")
        own_cluster.kill_api()
        turned = first.lead.turned
        # For longer than the lease is good for.
        until(lambda: first.lead.turned > turned + 3 * FAST.lease_s)
        assert first.lead.leading and not second.works
        own_cluster.start_api()
        turned = second.lead.turned
        until(lambda: second.lead.turned > turned + 2 * FAST.renew_s)
        # The one that stands by has heard nothing of the leader meanwhile, and does not hold that against it.
        assert first.lead.leading and not second.lead.leading
        assert first.status is None
    gc.collect()


def test_a_lease_that_is_not_there_is_waited_for(house: House, tmp_path: Path) -> None:
    early = Candidate(house, "a", tmp_path)
    turned = early.lead.turned
    until(lambda: early.lead.turned > turned)
    assert not early.works
    [lease] = [item for item in house.rendered() if item["kind"] == "Lease"]
    house.kube.apply(lease)
    until(lambda: early.works)
    assert early.end() == 0
