"""The API server. Every call goes through `Kube.call`, which waits for a server that is away and gives every refusal a class."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from kubernetes import client, config
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from feedback.errors import EverloopError
from k8s.errors import (
    ClusterAwayError,
    GoneError,
    KindMissingError,
    NoClusterError,
    NotAllowedError,
    OwnedError,
    RejectedError,
)
from k8s.objects import Object, key

MANAGER = "everloop"
"""The field manager: what we apply is ours, and what others set beside it stays theirs."""

_APPLY = "application/apply-patch+yaml"
_BUSY = (429, 500, 502, 503, 504)
_PAUSE_S = 0.5


@dataclass(frozen=True)
class Resource:
    """Where a kind's objects are."""

    path: str
    namespaced: bool


class Kube:
    """One cluster, as one user."""

    def __init__(
        self,
        api: client.ApiClient,
        *,
        patience_s: float = 60.0,
        call_s: float = 30.0,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        """`patience_s`: how long to wait for a server that is away; `call_s`: how long one call may take."""
        self.host, self.api = api.configuration.host, api
        self._patience_s, self._call_s, self._say = patience_s, call_s, say
        # The client's own repetitions know no pause.
        api.rest_client.pool_manager.connection_pool_kw["retries"] = False
        self._resources: dict[tuple[str, str], Resource] = {}

    def close(self) -> None:
        """Close the connections."""
        self.api.rest_client.pool_manager.clear()

    # ---- objects

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object | None:
        """Read one object; None: there is none."""
        try:
            return self.call("GET", self._path(api_version, kind, namespace, name))
        except GoneError:
            return None

    def listed(self, api_version: str, kind: str, namespace: str, *, selector: str = "") -> list[Object]:
        """Read all objects of a kind in a namespace."""
        query = {"labelSelector": selector} if selector else {}
        found = self.call("GET", self._path(api_version, kind, namespace), query=query)
        return [{"apiVersion": api_version, "kind": kind} | each for each in found["items"]]

    def apply(self, item: Object, *, dry_run: bool = False, force: bool = False) -> Object:
        """Make an object say what it shall (server-side apply), and answer what it says then.

        Raises:
            OwnedError: another manager has set one of its fields otherwise, and `force` is not set.
            RejectedError: a field is unknown or has a value that is not allowed.
        """
        where = self._path(item["apiVersion"], item["kind"], key(item).namespace, key(item).name)
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        with _about(item):
            return self.call("PATCH", where, query=query, body=item, content=_APPLY)

    def delete(self, item: Object, *, foreground: bool = False) -> None:
        """Delete an object, and what it owns; one that is not there is no error."""
        where = self._path(item["apiVersion"], item["kind"], key(item).namespace, key(item).name)
        policy = "Foreground" if foreground else "Background"
        try:
            self.call("DELETE", where, query={"propagationPolicy": policy})
        except GoneError:
            return

    def logs(self, namespace: str, pod: str, container: str, *, lines: int) -> str:
        """The last lines that a container has written."""
        query = {"container": container, "tailLines": str(lines)}
        return self._text("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query)

    # ---- calls

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
    ) -> Object:
        """Make one call and answer the object that came back.

        Raises:
            ClusterAwayError: the server has not answered for `patience_s`.
            EverloopError: it refused; the class says why.
        """
        text = self._text(method, path, query or {}, body, content)
        found: Object = json.loads(text) if text else {}
        return found

    def _text(
        self, method: str, path: str, query: Mapping[str, str], body: Any = None, content: str = "application/json"
    ) -> str:
        deadline = time.monotonic() + self._patience_s
        away = False
        while True:
            try:
                if away:
                    # Up, but not yet knowing who may do what, it would refuse what is allowed.
                    self._once("GET", "/readyz", {}, None, content)
                return self._once(method, path, query, body, content)
            except _AwayError as error:
                if time.monotonic() > deadline:
                    raise ClusterAwayError(
                        f"cluster {self.host}: no answer for {self._patience_s:g} s: {error}"
                    ) from error
                if not away:
                    self._say(f"waiting for the API server at {self.host}: {error}")
                away = True
                time.sleep(_PAUSE_S)

    def _once(self, method: str, path: str, query: Mapping[str, str], body: Any, content: str) -> str:
        where = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json, */*", "Content-Type": content}
        try:
            request = self.api.param_serialize(
                method, where, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            answer = self.api.call_api(*request, _request_timeout=self._call_s)
            text: str = answer.read().decode(errors="replace")
        except (HTTPError, OSError, client.ApiException) as error:
            raise _AwayError(_first_line(error)) from error
        if answer.status in _BUSY:
            raise _AwayError(f"{answer.status}: {_message(text)}")
        if answer.status >= 400:
            raise _refusal(answer.status, method, path, text)
        return text

    # ---- kinds

    def _path(self, api_version: str, kind: str, namespace: str, name: str = "") -> str:
        found = self.resource(api_version, kind)
        parts = [_root(api_version), *(["namespaces", namespace] if found.namespaced and namespace else []), found.path]
        return "/".join([*parts, name] if name else parts)

    def resource(self, api_version: str, kind: str) -> Resource:
        """Find where a kind's objects are.

        Raises:
            KindMissingError: the cluster has no such kind.
        """
        if (api_version, kind) not in self._resources:
            try:
                served = self.call("GET", _root(api_version))["resources"]
            except GoneError:
                served = []
            for each in served:
                if "/" not in each["name"]:
                    self._resources[api_version, each["kind"]] = Resource(each["name"], each["namespaced"])
        try:
            return self._resources[api_version, kind]
        except KeyError:
            raise KindMissingError(
                f"cluster {self.host} has no kind {kind} in {api_version}: install what defines it "
                f"({brings(api_version)})"
            ) from None

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether the cluster has a kind."""
        try:
            self.resource(api_version, kind)
        except KindMissingError:
            return False
        return True


def brings(api_version: str) -> str:
    """Say who brings the kinds of a group that is not Kubernetes' own."""
    return _WHO.get(api_version.partition("/")[0], "its CustomResourceDefinition")


_WHO = {"kafka.strimzi.io": "the Strimzi operator", "monitoring.coreos.com": "the Prometheus operator"}


class _AwayError(Exception):
    """No answer, or one that says to try again."""


def connect(
    *,
    context: str = "",
    patience_s: float = 60.0,
    call_s: float = 30.0,
    say: Callable[[str], object] = lambda _: None,
) -> tuple[Kube, str]:
    """Find the cluster as kubectl does ($KUBECONFIG, ~/.kube/config, or the pod we are in); answer it and its default namespace.

    Raises:
        NoClusterError: nothing says where it is.
    """
    try:
        contexts, active = config.list_kube_config_contexts()
        chosen = next((each for each in contexts if each["name"] == context), None) if context else active
        if chosen is None:
            names = ", ".join(sorted(each["name"] for each in contexts)) or "none"
            raise NoClusterError(f"context = {context!r}: one of {names}")
        api = config.new_client_from_config(context=chosen["name"])
        namespace = str(chosen["context"].get("namespace", ""))
    except ConfigException as error:
        api, namespace = _inside(error), ""
    return Kube(api, patience_s=patience_s, call_s=call_s, say=say), namespace


def _inside(outside: Exception) -> client.ApiClient:
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except ConfigException:
        raise NoClusterError(
            f"no cluster: {_first_line(outside)}; name one with --context, $KUBECONFIG or ~/.kube/config"
        ) from outside
    return client.ApiClient(settings)


@contextmanager
def _about(item: Object) -> Iterator[None]:
    """Name the object in a refusal that does not."""
    try:
        yield
    except (OwnedError, RejectedError) as error:
        raise type(error)(f"{key(item)}: {error}") from error


def _refusal(status: int, method: str, path: str, text: str) -> EverloopError:
    message = _message(text)
    if status == 404:
        return GoneError(message)
    if status == 403 and "exceeded quota" not in message and "violates PodSecurity" not in message:
        return NotAllowedError(f"not allowed: {message}")
    if status == 401:
        return NotAllowedError(f"not allowed: the cluster does not know this user ({method} {path})")
    if status == 409 and "conflict" in message.lower() and '"FieldManagerConflict"' in text:
        return OwnedError(f"{_conflicts(text)}; --force takes the fields over")
    return RejectedError(message)


def _conflicts(text: str) -> str:
    causes = json.loads(text).get("details", {}).get("causes", ())
    return "; ".join(f"{each['field']}: {each['message']}" for each in causes)


def _message(text: str) -> str:
    try:
        return str(json.loads(text).get("message", text))
    except (ValueError, AttributeError):
        return text[:500]


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0]


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
