"""What each service account may do: tried verb by verb, on the API server's own authorizer."""

from __future__ import annotations

import pytest
from kubernetes import client

from k8s.api import Kube
from k8s.errors import NotAllowedError
from tests.k8s.kit import House

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
RESOURCES = {
    "": (
        "pods", "pods/exec", "pods/log", "pods/portforward", "secrets", "configmaps", "services", "events",
        "serviceaccounts", "serviceaccounts/token", "persistentvolumeclaims",
    ),
    "apps": ("deployments", "statefulsets", "deployments/scale", "replicasets"),
    "coordination.k8s.io": ("leases",),
    "rbac.authorization.k8s.io": ("roles", "rolebindings"),
    "kafka.strimzi.io": ("kafkatopics", "kafkausers"),
}  # fmt: skip


def token(house: House, account: str) -> str:
    request = {"spec": {"audiences": ["https://kubernetes.default.svc"]}}
    made = house.core.create_namespaced_service_account_token(account, house.name, request)
    return str(made.status.token)


def allowed(house: House, account: str, name: str = "") -> set[tuple[str, str]]:
    """What an account may do to the object of a name (or to every object of a kind): verb and resource."""
    asks = client.AuthorizationV1Api(house.cluster.client(token=token(house, account)))
    found = set()
    for group, resources in RESOURCES.items():
        for resource in resources:
            for verb in VERBS:
                plain, _, below = resource.partition("/")
                attributes = {
                    "group": group,
                    "resource": plain,
                    "subresource": below,
                    "verb": verb,
                    "namespace": house.name,
                    "name": name,
                }
                review = {"spec": {"resourceAttributes": attributes}}
                if asks.create_self_subject_access_review(review).status.allowed:
                    found.add((verb, resource))
    return found


@pytest.mark.parametrize("account", ["trainer", "everloop"])
def test_a_part_may_do_nothing_to_what_is_not_its_own(house: House, account: str) -> None:
    for item in house.rendered():
        if item["kind"] in ("ServiceAccount", "Role", "RoleBinding", "Lease"):
            house.kube.apply(item)
    assert allowed(house, account) == set()
    assert allowed(house, account, "another") == set()


def test_the_trainer_may_read_and_renew_its_own_lease_and_no_more(house: House) -> None:
    for item in house.rendered():
        if item["kind"] in ("ServiceAccount", "Role", "RoleBinding", "Lease"):
            house.kube.apply(item)
    assert allowed(house, "trainer", "trainer") == {("get", "leases"), ("update", "leases")}
    assert allowed(house, "everloop", "trainer") == set()
    kube = Kube(house.cluster.client(token=token(house, "trainer")))
    lease = kube.get("coordination.k8s.io/v1", "Lease", house.name, "trainer")
    assert lease is not None
    lease["spec"] = {"holderIdentity": "trainer-0"}
    path = f"/apis/coordination.k8s.io/v1/namespaces/{house.name}/leases/trainer"
    assert kube.call("PUT", path, body=lease)["spec"]["holderIdentity"] == "trainer-0"
    with pytest.raises(NotAllowedError, match='cannot delete resource "leases"'):
        kube.call("DELETE", path)
