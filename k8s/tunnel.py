"""A page of a pod, through the API server, as `kubectl port-forward` reaches it: no address of the pod need be reachable from here."""

from __future__ import annotations

import io
from http.client import HTTPException, HTTPResponse
from socket import socket
from typing import Any, cast

from kubernetes import client
from kubernetes.stream.ws_client import create_websocket
from websocket import WebSocketException

from k8s.api import Kube
from k8s.objects import Object

_DATA = 0
"""The channel of the first port's data; 1 is that of its errors."""
_ASK_S = 3.0


def get(kube: Kube, pod: Object, port: int, path: str) -> str | None:
    """Get a page from a port of a pod; None: it does not answer, or with an error."""
    try:
        websocket = _open(kube, pod["metadata"]["namespace"], pod["metadata"]["name"], port)
    except (client.ApiException, WebSocketException, OSError):
        return None
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: {pod['metadata']['name']}\r\nConnection: close\r\n\r\n"
        websocket.send_binary(bytes([_DATA]) + request.encode())
        answer = HTTPResponse(cast(socket, _Socket(websocket)))
        answer.begin()
        text = answer.read().decode()
    except (WebSocketException, HTTPException, OSError):
        return None
    finally:
        websocket.close()
        # Where the other side has closed first, `close` leaves the socket open.
        websocket.shutdown()
    return text if answer.status == 200 else None


def _open(kube: Kube, namespace: str, pod: str, port: int) -> Any:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward?ports={port}"
    _, url, headers, *_ = kube.api.param_serialize("GET", path, auth_settings=["BearerToken"])
    websocket = create_websocket(kube.api.configuration, url.replace("http", "ws", 1), headers)
    websocket.settimeout(_ASK_S)
    return websocket


class _Socket:
    """As much of a socket as an HTTP response reads from."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket

    def makefile(self, mode: str) -> io.BufferedReader:
        """What comes in, as a file."""
        return io.BufferedReader(_Frames(self._websocket))


class _Frames(io.RawIOBase):
    """What comes in on the data channel. The first frame of each channel holds the port's number, not data."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket
        self._rest = b""
        self._begun: set[int] = set()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; 0: the end."""
        while not self._rest:
            frame = self._websocket.recv()
            if not frame:
                return 0
            channel = frame[0]
            if channel == _DATA and channel in self._begun:
                self._rest = frame[1:]
            self._begun.add(channel)
        taken = min(len(buffer), len(self._rest))
        buffer[:taken], self._rest = self._rest[:taken], self._rest[taken:]
        return taken
