"""What can go wrong with a cluster, below feedback.errors.

EverloopError
├── UsageError
│   └── NoClusterError      nothing says which cluster
├── UnavailableError
│   └── ClusterAwayError    it does not answer
├── NotAllowedError         this user may not do that: the message says which verb on what
├── KindMissingError        the cluster does not know a kind: an operator or its definitions are not installed
├── OwnedError              somebody else manages a field that we say otherwise
├── RejectedError           the API server refuses an object
├── GoneError               an object is not there
└── NotReadyError           it was applied, and did not become ready in time
"""

from __future__ import annotations

from feedback.errors import EverloopError, UnavailableError, UsageError


class NoClusterError(UsageError):
    """No kubeconfig, no such context, and not inside a pod."""


class ClusterAwayError(UnavailableError):
    """The API server does not answer."""


class NotAllowedError(EverloopError):
    """The user lacks a right."""


class KindMissingError(EverloopError):
    """The cluster has no such kind."""


class OwnedError(EverloopError):
    """Another field manager has set a field to another value."""


class RejectedError(EverloopError):
    """An object is not as the API server, or an admission rule, allows."""


class GoneError(EverloopError):
    """There is no such object."""


class NotReadyError(EverloopError):
    """Something did not become ready in time."""
