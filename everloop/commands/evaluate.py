"""`everloop evaluate --policy NAME`: what another ranking policy would have brought, from what was logged."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everloop.commands.options import Data, File, Json, print_json, print_table
from everloop.session import open_session
from feedback.errors import UsageError

if TYPE_CHECKING:
    from everloop.evaluation.evaluate import Evaluation
    from everloop.evaluation.interval import Estimate
    from everloop.evaluation.pair import Span


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    policy: Annotated[
        str,
        typer.Option(
            metavar="POLICY",
            help="The policy in question, as logs name it: greedy, 'epsilon_greedy(0.05)', 'softmax(0.3)+uniform(0.01)'. "
            "A parameter that is left out is the configured one.",
        ),
    ],
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Event time, ISO 8601, UTC unless it says. Default: all.")
    ] = "",
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Up to but not including it. Default: all.")] = "",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="PATH", help="Records of both topics, one JSON object a line, instead of Kafka."
        ),
    ] = None,
    data: Data = None,
    config: File = None,
    as_json: Json = False,
) -> None:
    """Estimate what a policy would have brought on the slates of a time range, ranked by the scores that were logged."""
    from everloop.broker import reach
    from everloop.evaluation.evaluate import evaluate as ask
    from everloop.evaluation.pair import Rules
    from everloop.evaluation.policies import parse
    from everloop.evaluation.recall import recall
    from everloop.evaluation.refuse import check_silent
    from everloop.evaluation.topics import Source

    session = open_session(data, config)
    settings = session.loaded.config
    wanted = parse(policy, settings.gateway.policy)
    source = Source(_span(start, end), Rules(settings.streams.join, settings.streams.labels))
    slates = source.kafka(reach(session)) if file is None else source.file(file)
    found = recall(slates, wanted)
    left_out = source.left_out + found.left_out
    check_silent(left_out, len(found.logged), found.certain_policies)
    evaluation = ask(found.logged, wanted, left_out=left_out)
    if as_json:
        print_json(evaluation)
    else:
        _print(evaluation)


def _span(start: str, end: str) -> Span:
    from everloop.evaluation.pair import Span

    bounds = Span()
    return Span(
        _time("--from", start) if start else bounds.start,
        _time("--to", end) if end else bounds.end,
    )


def _time(option: str, text: str) -> int:
    from feedback.clock import to_us

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: a time in ISO 8601, as 2026-01-31T18:00") from error
    return to_us((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _print(found: Evaluation) -> None:
    ran = ", ".join(f"{name} {count:,}" for name, count in found.logged_policies.items())
    print(f"{found.policy} on {found.slates:,} slates of {found.readers:,} readers; logged under {ran}")
    print(f"as it was: {_range(found.logged)} positives per slate")
    print_table(
        ["estimator", "value", "95 %", "gain", "95 %", "assumes"],
        [
            [each.estimator, *_cells(each.value), *_cells(each.gain), each.assumes or "nothing"]
            for each in found.answers
        ],
    )
    sizes = zip(found.effective_sample_size, found.mean_weight, strict=True)
    print_table(
        ["slot", "effective sample size", "mean weight"],
        [[str(slot), f"{size:,.0f}", f"{weight:.3f}"] for slot, (size, weight) in enumerate(sizes)],
    )
    for reason, count in found.left_out.items():
        print(f"left out: {count:,} {reason.replace('_', ' ')}")
    for note in found.notes:
        print(f"not computed: {note}")


def _cells(estimate: Estimate) -> list[str]:
    return [f"{estimate.value:.5f}", f"{estimate.low:.5f} … {estimate.high:.5f}"]


def _range(estimate: Estimate) -> str:
    value, reach = _cells(estimate)
    return f"{value} ({reach})"
