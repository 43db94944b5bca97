"""The stages of freshness, from the histograms that the parts export: sent → joined → trained → synced → served."""

from __future__ import annotations

import math
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from everloop.runtime.supervise import Supervisor

METRIC: Final = "everloop_freshness_seconds"
PARTS: Final = ("trainer", "follower", "gateway")

Buckets = dict[float, float]
"""Cumulative count by upper bound, s."""


class Stages(dict[str, Buckets]):
    """Buckets by stage, summed over the parts that export it."""


def read(supervisor: Supervisor) -> Stages:
    """Read the histograms of the running parts."""
    found: defaultdict[str, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for part in PARTS:
        url = f"{supervisor.addresses[part].rstrip('/')}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            if family.name == METRIC:
                for sample in family.samples:
                    if sample.name.endswith("_bucket"):
                        found[sample.labels["stage"]][float(sample.labels["le"])] += sample.value
    return Stages({stage: dict(buckets) for stage, buckets in found.items()})


def quantiles(after: Mapping[str, Buckets], before: Mapping[str, Buckets]) -> dict[str, tuple[float, float]]:
    """p50 and p99 of what was observed between two readings, s, by stage; stages that saw nothing are left out."""
    found = {}
    for stage, buckets in after.items():
        earlier = before.get(stage, {})
        seen = {bound: count - earlier.get(bound, 0.0) for bound, count in sorted(buckets.items())}
        if seen and max(seen.values()) > 0:
            found[stage] = (quantile(seen, 0.5), quantile(seen, 0.99))
    return found


def quantile(cumulative: Buckets, share: float) -> float:
    """The quantile of a histogram, linear inside its bucket (as Prometheus' histogram_quantile); NaN when empty.

    >>> quantile({0.1: 0, 0.2: 10, math.inf: 10}, 0.5)
    0.15
    """
    bounds = sorted(cumulative)
    total = cumulative[bounds[-1]]
    if not total:
        return math.nan
    wanted, low, below = share * total, 0.0, 0.0
    for bound in bounds:
        count = cumulative[bound]
        if count >= wanted:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (wanted - below) / (count - below) if count > below else bound
        low, below = bound, count
    return low
