"""Clients that are slow, idle or endless, by the thousand: the others are answered, and those that never end are let go."""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.gateway.settings import GatewaySettings, HttpSettings
from tests.gateway.conftest import Start
from tests.gateway.world import PATIENT, Process, until

HEAD = b"POST /v1/recommend HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
BODY = json.dumps({"user": "anna", "candidates": [{"id": "i1"}, {"id": "i3"}]}).encode()
WHOLE = HEAD + b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
LONG = b"GET /openapi.json HTTP/1.1\r\nhost: gateway\r\n\r\n"


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    """This process holds a thousand connections, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """Connections that misbehave."""

    def __init__(self, gateway: Process) -> None:
        self._port = gateway.ready["http_port"]
        self.sockets: list[socket.socket] = []
        self._trickling: list[socket.socket] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._trickle)
        self._thread.start()

    def join(self, count: int, says: bytes = b"", *, trickles: bool = False) -> list[socket.socket]:
        """Open connections that say something, and then a byte now and then or nothing more. None reads."""
        opened = []
        for _ in range(count):
            each = socket.socket()
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.connect(("127.0.0.1", self._port))
            if says:
                each.sendall(says)
            opened.append(each)
        self.sockets += opened
        if trickles:
            self._trickling += opened
        return opened

    def leave(self) -> None:
        """Close everything."""
        self._ended.set()
        self._thread.join()
        for each in self.sockets:
            each.close()

    def _trickle(self) -> None:
        while not self._ended.wait(0.5):
            for each in list(self._trickling):
                with contextlib.suppress(OSError):
                    each.send(b"a", socket.MSG_DONTWAIT)


@pytest.fixture
def gathered() -> Iterator[list[Crowd]]:
    crowds: list[Crowd] = []
    yield crowds
    for each in crowds:
        each.leave()


def crowd(gateway: Process, gathered: list[Crowd]) -> Crowd:
    made = Crowd(gateway)
    gathered.append(made)
    return made


def dropped(each: socket.socket) -> bool:
    """Whether the gateway has ended a connection; what it sent before is read, to get to the end."""
    try:
        while select.select([each], [], [], 0)[0]:
            if not each.recv(65536):
                return True
    except OSError:
        return True
    return False


def connections(gateway: Process) -> int:
    """Sockets that the gateway's process has open: clients', and a few to Kafka, Redis and the model server that come and go."""
    found = 0
    for each in Path(f"/proc/{gateway.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(each.readlink()).startswith("socket:")
    return found


def ask(gateway: Process) -> dict[str, object]:
    """One request on a connection of its own, as a newcomer's."""
    with httpx.Client(base_url=gateway.url, timeout=60) as http:
        answer = http.post("/v1/recommend", content=BODY, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def test_a_thousand_slow_clients_take_nothing_from_the_others(start: Start, gathered: list[Crowd]) -> None:
    gateway = start(GatewaySettings(budget=PATIENT))
    slow = crowd(gateway, gathered)
    slow.join(300, HEAD + b"x-slow: ", trickles=True)
    slow.join(300, HEAD + b"content-length: 5000\r\n\r\n{", trickles=True)
    slow.join(100)
    slow.join(300, LONG * 20)
    for _ in range(100):
        answer = ask(gateway)
        assert answer["fallback"] == ""
        assert answer["logged"] is True
    # One that is kept open is answered as well.
    for _ in range(100):
        assert gateway.recommend(["i1", "i3"])["fallback"] == ""
    assert gateway.http.get("/v1/health/ready").status_code == 200
    assert "Traceback" not in gateway.log()


def test_who_never_ends_a_request_or_takes_no_answer_is_let_go(start: Start, gathered: list[Crowd]) -> None:
    http = HttpSettings(head_timeout_s=1, body_timeout_s=1, write_timeout_s=1, keep_alive_s=2)
    gateway = start(GatewaySettings(budget=PATIENT, http=http))
    ask(gateway)
    before = connections(gateway)
    slow = crowd(gateway, gathered)
    slow.join(20)
    slow.join(20, HEAD + b"x-slow: ", trickles=True)
    slow.join(20, HEAD + b"content-length: 5000\r\n\r\n{", trickles=True)
    slow.join(20, b"GET /v1/health/live HTTP/1.1\r\nhost: g\r\ncontent-length: 5000\r\n\r\n{", trickles=True)
    slow.join(20, WHOLE + b"\r\n")
    slow.join(20, LONG * 400)
    until(lambda: connections(gateway) <= before + 5, "every slow connection has been ended")
    until(lambda: all(dropped(each) for each in slow.sockets), "every slow client has been told")
    assert ask(gateway)["fallback"] == ""
    assert "Traceback" not in gateway.log()


def test_where_there_are_too_many_the_longest_idle_makes_room(start: Start, gathered: list[Crowd]) -> None:
    gateway = start(GatewaySettings(budget=PATIENT, http=HttpSettings(max_connections=50)))
    assert ask(gateway)["fallback"] == ""
    before = connections(gateway)
    idle = crowd(gateway, gathered)
    first = idle.join(50)
    assert ask(gateway)["fallback"] == ""
    idle.join(150, HEAD)
    for _ in range(20):
        assert ask(gateway)["fallback"] == ""
    until(lambda: all(dropped(each) for each in first), "the first have made room")
    assert connections(gateway) <= before + 55


def test_a_head_without_end_is_refused(start: Start, gathered: list[Crowd]) -> None:
    gateway = start(GatewaySettings(http=HttpSettings(max_head=8192)))
    [endless] = crowd(gateway, gathered).join(1, HEAD + b"x-long: " + b"a" * 10_000)
    assert endless.recv(100).startswith(b"HTTP/1.1 431 ")
    with httpx.Client(base_url=gateway.url) as http:
        assert http.get("/v1/health/live", headers={"x-long": "a" * 8000}).status_code == 200


def test_a_body_is_no_part_of_the_head_and_requests_may_follow_one_another(start: Start) -> None:
    gateway = start(GatewaySettings(budget=PATIENT, http=HttpSettings(max_head=1024)))
    items = [f"i{number}" for number in range(500)]
    for _ in range(3):
        assert len(gateway.recommend(items)["items"]) == 10
    with socket.create_connection(("127.0.0.1", gateway.ready["http_port"])) as client:
        client.settimeout(60)
        client.sendall(WHOLE * 30)
        read = b""
        while read.count(b"HTTP/1.1 200 OK") < 30:
            part = client.recv(65536)
            assert part, read[-500:]
            read += part
