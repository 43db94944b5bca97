"""What the dashboard asks: a row for each stage of the loop, freshness first, in the order in which the data flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["s", "short", "ops", "percentunit", "bytes", "Bps"]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One graph."""

    title: str
    """What it shows, as a phrase."""
    unit: Unit
    """Grafana's name of the unit."""
    says: str
    """What a reader of the graph should know; shown at its corner."""
    asks: tuple[tuple[str, str], ...]
    """Each line's legend and query."""
    limit: float | None = None
    """Where the red line is."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One stage of the loop."""

    title: str
    panels: tuple[Panel, ...]


def _rate(metric: str, by: str = "", selector: str = "") -> str:
    inside = ", ".join(each for each in ('namespace="$namespace"', selector) if each)
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{inside}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, selector: str = "", by: str = "le") -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', by, selector)})"


def _now(metric: str, how: str = "sum", by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f'{how}{grouped} ({metric}{{namespace="$namespace"}})'


def _ages(stage: str) -> tuple[tuple[str, str], ...]:
    chosen = f'stage="{stage}"'
    return tuple(
        (name, _quantile(share, "everloop_freshness_seconds", chosen)) for name, share in (("p50", 0.5), ("p99", 0.99))
    )


def _stages(share: float) -> tuple[tuple[str, str], ...]:
    return tuple(
        (stage, _quantile(share, "everloop_freshness_seconds", f'stage="{stage}"'))
        for stage in ("joined", "trained", "synced", "total")
    )


ROWS = (
    Row(
        title="Freshness",
        panels=(
            Panel(
                title="From an outcome to the first answer that knows of it",
                unit="s",
                says="The figure that counts: sent_time of an outcome to the first answer of a model that has learned from it.",
                asks=_ages("total"),
                limit=1.5,
            ),
            Panel(
                title="Where the time goes (p50)",
                unit="s",
                says="Age of outcomes at the end of each stage: what lies between two lines is a stage's share.",
                asks=_stages(0.5),
            ),
            Panel(
                title="Where the time goes (p99)",
                unit="s",
                says="The same for the slowest outcome of 100.",
                asks=_stages(0.99),
            ),
        ),
    ),
    Row(
        title="Answer",
        panels=(
            Panel(
                title="Slates answered",
                unit="ops",
                says="All, those without the model, with default features, or not logged for a full spool; and slates chosen elsewhere.",
                asks=(
                    ("answered", _rate("everloop_recommendations_total")),
                    ("chosen elsewhere", _rate("everloop_observed_total")),
                    ("fallback: {{reason}}", _rate("everloop_fallbacks_total", "reason")),
                    ("degraded: {{reason}}", _rate("everloop_degraded_total", "reason")),
                    ("not logged", _rate("everloop_unlogged_total")),
                ),
            ),
            Panel(
                title="Time to answer",
                unit="s",
                says="In the gateway, from the whole request to the answer; and what the model and the features take of it.",
                asks=(
                    ("p50", _quantile(0.5, "everloop_recommend_seconds")),
                    ("p99", _quantile(0.99, "everloop_recommend_seconds")),
                    ("{{stage}} p99", _quantile(0.99, "everloop_recommend_stage_seconds", by="le, stage")),
                ),
                limit=0.1,
            ),
            Panel(
                title="Requests by status",
                unit="ops",
                says="5xx is ours, 4xx the caller's, 499 a caller that left.",
                asks=(("{{route}} {{status}}", _rate("everloop_http_requests_total", "route, status")),),
            ),
            Panel(
                title="Waiting for Kafka",
                unit="bytes",
                says="What each gateway's spool holds, and how much it may hold.",
                asks=(
                    ("{{pod}}", _now("everloop_spool_waiting_bytes", by="pod")),
                    ("full at", _now("everloop_spool_max_bytes", "min")),
                ),
            ),
        ),
    ),
    Row(
        title="Join",
        panels=(
            Panel(
                title="Records waiting",
                unit="short",
                says="Predictions and outcomes in Kafka that are not joined yet.",
                asks=(("{{topic}}", _now("everloop_join_lag_records", by="topic")),),
            ),
            Panel(
                title="Read, written, refused",
                unit="ops",
                says="Events in, sample records out, dead letters by reason.",
                asks=(
                    ("events", _rate("everloop_join_events_total")),
                    ("samples", _rate("everloop_join_samples_total")),
                    ("refused: {{reason}}", _rate("everloop_join_dead_letters_total", "reason")),
                ),
            ),
            Panel(
                title="The books",
                unit="short",
                says="Impressions and samples that are unaccounted for. Anything but 0 is wrong.",
                asks=(("{{of}}, partition {{partition}}", _now("everloop_join_residual", "max", "of, partition")),),
                limit=1,
            ),
            Panel(
                title="Examples",
                unit="ops",
                says="What goes out to be learned: negatives, positives at first sight, and revisions of negatives.",
                asks=(
                    ("negatives", _rate("everloop_join_negatives_total")),
                    ("positives", _rate("everloop_join_positives_total")),
                    ("revisions", _rate("everloop_join_revisions_total")),
                ),
            ),
        ),
    ),
    Row(
        title="Train",
        panels=(
            Panel(
                title="Records waiting to be learned",
                unit="short",
                says="Records of samples in Kafka that the trainer has not taken in.",
                asks=(("lag", _now("everloop_trainer_lag_records")),),
            ),
            Panel(
                title="Examples learned",
                unit="ops",
                says="And samples that could not be.",
                asks=(
                    ("learned", _rate("everloop_trainer_examples_total")),
                    ("refused", _rate("everloop_trainer_refused_samples_total")),
                ),
            ),
            Panel(
                title="Log loss on settled labels",
                unit="short",
                says="Over the window of event time, each row scored before it was learned; and each item's running click rate.",
                asks=tuple(
                    (
                        name,
                        f'max (everloop_trainer_progressive{{namespace="$namespace", figure="{figure}", over="window"}})',
                    )
                    for name, figure in (("model", "log_loss"), ("baseline", "log_loss_baseline"))
                ),
            ),
            Panel(
                title="The gate",
                unit="short",
                says="1 while nothing leaves the trainer; and its refusals by check.",
                asks=(
                    ("paused", _now("everloop_trainer_paused", "max")),
                    ("refused: {{check}}", _now("everloop_trainer_refusals_total", "max", "check")),
                ),
            ),
        ),
    ),
    Row(
        title="Sync",
        panels=(
            Panel(
                title="Deltas behind the trainer",
                unit="short",
                says="How many deltas each replica lacks.",
                asks=(
                    (
                        "{{pod}}",
                        f"{_now('everloop_trainer_sequence', 'max', 'namespace')} - on (namespace) group_right"
                        f" {_now('everloop_follower_sequence', 'max', 'namespace, pod')}",
                    ),
                ),
            ),
            Panel(
                title="Time of one sync call (p99)",
                unit="s",
                says="A delta's way into the running model server.",
                asks=(("{{pod}}", _quantile(0.99, "everloop_follower_sync_seconds", by="le, pod")),),
            ),
            Panel(
                title="Versions",
                unit="short",
                says="The newest that was exported, and the one that is live on each replica: a step is a swap.",
                asks=(
                    ("exported", _now("everloop_trainer_version", "max")),
                    ("live on {{pod}}", _now("everloop_follower_live_version", "max", "pod")),
                ),
            ),
            Panel(
                title="Checksums that did not hold",
                unit="short",
                says="A replica that differs from the trainer loads its base again.",
                asks=(("{{pod}}", _now("everloop_follower_checksums_failed", "max", "pod")),),
                limit=1,
            ),
        ),
    ),
    Row(
        title="Predict",
        panels=(
            Panel(
                title="Predict calls by status",
                unit="ops",
                says="As TensorFlow Serving counts them.",
                asks=(("{{status}}", _rate(":tensorflow:serving:request_count", "status")),),
            ),
            Panel(
                title="Time in TensorFlow Serving (p99, µs)",
                unit="short",
                says="Of a request, by its entry point.",
                asks=(
                    (
                        "{{entrypoint}}",
                        _quantile(0.99, ":tensorflow:serving:request_latency", by="le, entrypoint"),
                    ),
                ),
            ),
            Panel(
                title="What is open between the gateway and its parts",
                unit="short",
                says="1 where a gateway leaves a part alone because it failed.",
                asks=(("{{pod}}: {{part}}", _now("everloop_breaker_open", "max", "pod, part")),),
            ),
        ),
    ),
)
"""Every row, from the top."""
