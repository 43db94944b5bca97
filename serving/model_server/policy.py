"""Which of the versions that exist shall be loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Latest:
    """The highest `count` versions; 0 means 1."""

    count: int = 1


@dataclass(frozen=True)
class All:
    """Every version."""


@dataclass(frozen=True)
class Specific:
    """These versions, as far as they exist. None of them existing means none is loaded."""

    versions: tuple[int, ...] = ()


Policy = Latest | All | Specific


def aspired(present: Iterable[int], policy: Policy) -> tuple[int, ...]:
    """The versions to load, highest first.

    >>> aspired([1, 2, 3], Latest(2)), aspired([1, 2], Specific((2, 9)))
    ((3, 2), (2,))
    """
    highest_first = sorted(set(present), reverse=True)
    match policy:
        case Latest(count):
            return tuple(highest_first[: max(count, 1)])
        case Specific(versions):
            return tuple(version for version in highest_first if version in versions)
        case All():
            return tuple(highest_first)


def from_proto(proto: Any) -> Policy:
    """The policy of a ModelConfig; latest 1 where none is set."""
    match proto.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            return Specific(tuple(proto.specific.versions))
        case "latest":
            return Latest(proto.latest.num_versions or 1)
        case _:
            return Latest()
