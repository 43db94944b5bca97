"""`everloop newsroom`: readers of a simulated newsroom as clients of a loop that runs."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from everloop.commands.options import Data, File, Json, print_json, print_table
from everloop.session import Session, open_session
from everloop.tables import number
from feedback.errors import UsageError

if TYPE_CHECKING:
    from newsroom.live import Live, LiveSettings
    from newsroom.settings import WorldSettings
    from newsroom.tally import Tally

_ROWS: Final = 8
"""Versions in the table at most; --json has all."""
_LOG_EVERY_S: Final = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("newsroom")(newsroom)


def newsroom(
    gateway: Annotated[str, typer.Option(metavar="URL", help="Default: that of the loop in the data folder.")] = "",
    kafka: Annotated[str, typer.Option(metavar="HOST:PORT", help="Default: that of the loop.")] = "",
    key: Annotated[
        str, typer.Option(envvar="EVERLOOP_KEY", help="API key with scope recommend (outcomes too for --front-page), where there are keys.")
    ] = "",
    speed: Annotated[float, typer.Option(help="Seconds of the world in a second.")] = 1.0,
    duration: Annotated[
        float, typer.Option(help="How much of the world is lived through, s of the world; 0: until Ctrl-C.")
    ] = 0.0,
    start: Annotated[float, typer.Option(help="Where in the world to begin, s after its first midnight.")] = 43_200.0,
    linger: Annotated[
        float, typer.Option(help="For how long after the last request outcomes are still sent, s of the world.")
    ] = 120.0,
    seed: Annotated[int, typer.Option(min=0, help="Which world.")] = 1,
    readers: Annotated[
        float, typer.Option(help="Articles read on an average day; each is a request.")
    ] = 270_331.0,
    duplicate: Annotated[float, typer.Option(help="Share of outcomes that arrive twice.")] = 0.0,
    late: Annotated[float, typer.Option(help="Share of outcomes that are held back on the way.")] = 0.0,
    late_s: Annotated[float, typer.Option(help="For how long they are on average, s of the world.")] = 300.0,
    skew: Annotated[
        float, typer.Option(help="How wrong readers' clocks are, s of the world (standard deviation).")
    ] = 0.0,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of the world, as slates.pool_s=14400."),
    ] = None,
    front_page: Annotated[
        bool, typer.Option("--front-page", help="Report the front page's headlines too, which the loop has not chosen.")
    ] = False,
    connections: Annotated[int, typer.Option(min=1, help="Requests in flight at most.")] = 64,
    patience: Annotated[float, typer.Option(help="For how long a request is tried, s.")] = 10.0,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print an everloop.toml for a loop that sees all that readers send.")
    ] = False,
    data: Data = None,
    config: File = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Let a newsroom's readers ask the gateway and send what they do to Kafka, and say what the truth would have allowed.

    At Ctrl-C no more is asked, and the summary is printed. Exit status 1: a request was not answered, or an outcome not confirmed.
    """
    if print_config:
        print(_configuration(), end="")
        return
    from everloop.broker import reach
    from newsroom.live import LiveSettings
    from newsroom.tally import Tally

    session = open_session(data, config, flags={"kafka.bootstrap": kafka} if kafka else None)
    arrival = {"duplicate": duplicate, "late": late, "late_s": late_s, "skew_s": skew}
    named = {"readers.visits_per_day": readers} | {f"arrival.{name}": value for name, value in arrival.items()}
    world = _world(named | _changes(changes or []))
    settings = LiveSettings(
        gateway=gateway or _gateway(session),
        kafka=reach(session),
        key=key,
        speed=speed,
        start_s=start,
        duration_s=duration,
        linger_s=linger,
        connections=connections,
        front_page=front_page,
        patience_s=patience,
    )
    settings.check(world.days)
    tally, asked = Tally(), threading.Event()
    for live in _lives(world, seed, settings, tally):
        with _at_signals(live, asked):
            live.run()
        if asked.is_set():
            break
    if as_json:
        print_json(tally.summary())
    else:
        _print(tally)
    if warning := _warning(tally):
        print(warning, file=sys.stderr)
    if tally.errors or tally.unconfirmed:
        raise typer.Exit(1)


def _lives(world: WorldSettings, seed: int, settings: LiveSettings, tally: Tally) -> Iterator[Live]:
    """The world; and where no end is set, others after it, each from its first midnight on."""
    from newsroom.live import Live
    from newsroom.world import World

    yield Live(World(world, seed), settings, tally=tally, watch=_Progress())
    for other in () if settings.duration_s else count(seed + 1):
        yield Live(World(world, other), replace(settings, start_s=0.0), tally=tally, watch=_Progress())


@contextmanager
def _at_signals(live: Live, asked: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM end it cleanly; a second one ends the process as it would have without."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    def stop(*_: object) -> None:
        restore()
        print("\nstopping; press Ctrl-C again to stop at once", file=sys.stderr, flush=True)
        asked.set()
        live.stop()

    for each in before:
        signal.signal(each, stop)
    try:
        yield
    finally:
        restore()


def _gateway(session: Session) -> str:
    from everloop.folders import held
    from everloop.runtime.supervise import read

    addresses = read(session.folders).get("addresses", {}) if held(session.folders) else {}
    if "gateway" not in addresses:
        raise UsageError(f"nothing is up in {session.folders.root}: start it with `everloop up`, or say --gateway URL")
    return str(addresses["gateway"])


def _changes(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r}: NAME=VALUE, as slates.pool_s=14400")
        found[name] = value
    return found


def _world(changes: dict[str, Any]) -> WorldSettings:
    """The world's settings with some changed, by dotted name."""
    import msgspec

    from everloop.demo.toml import tree
    from newsroom.settings import WorldSettings

    known = _names(WorldSettings())
    if strange := sorted(set(changes) - known):
        raise UsageError(f"--set {strange[0]}: one of {', '.join(sorted(known))}")
    try:
        world = msgspec.convert(tree(changes), WorldSettings, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"--set: {error}") from error
    world.check()
    return world


def _names(settings: Any, prefix: str = "") -> set[str]:
    found = set()
    for each in fields(settings):
        value = getattr(settings, each.name)
        found |= _names(value, f"{each.name}.") if is_dataclass(value) else {f"{prefix}{each.name}"}
    return found


def _configuration() -> str:
    """A loop that sees all that the readers send, as everloop.toml."""
    from everloop.demo.profile import written
    from newsroom.requests import CROSSES, FEATURES

    features = [{"name": each.name, "source": each.source, "kind": each.kind} for each in FEATURES]
    return written(
        {"trainer.model.crosses": list(CROSSES), "features": features},
        "A loop for the readers of `everloop newsroom`: everything that they send is a feature.",
    )


class _Progress:
    """Says how far it is: on one line of a terminal, or in a log now and then."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, tally: Tally) -> None:
        """Called once a second."""
        self._calls += 1
        shown = tally.shown
        line = (
            f"{tally.asked:,} requests, {shown.slates:,} answers, {sum(tally.errors.values()):,} errors, {shown.clicks:,} clicks"
            f" ({shown.clicks / max(shown.impressions, 1):.2%}), {tally.behind_s:.2f} s behind at most"
        )
        if sys.stderr.isatty():
            print(f"\r{line} ", end="", file=sys.stderr, flush=True)
        elif self._calls % _LOG_EVERY_S == 0:
            print(line, file=sys.stderr, flush=True)


def _print(tally: Tally) -> None:
    found = tally.summary()
    counts = ["requests", "answers", "errors", "fallbacks", "unlogged", "impressions", "clicks"]
    counts += ["front_page"] if tally.front.slates else []
    counts += ["outcomes"]
    after = [
        "outcomes_confirmed",
        "outcomes_unconfirmed",
        "outcomes_unsent",
        "elapsed_s",
        "wanted_per_s",
        "asked_per_s",
    ]
    print_table(["what", "how much"], [[name.replace("_", " "), _cell(found[name])] for name in counts + after])
    rates = ("click_rate", "true_click_rate", "oracle_click_rate", "random_click_rate", "regret")
    groups = [("all", "", found)]
    groups += [("policy", name, each) for name, each in found["by_policy"].items()]
    groups += [("version", name, each) for name, each in list(found["by_version"].items())[-_ROWS:]]
    print_table(
        ["by", "", "impressions", *(name.replace("_", " ") for name in rates)],
        [[by, name, f"{each['impressions']:,}", *(f"{each[rate]:.4f}" for rate in rates)] for by, name, each in groups],
    )
    print_table(
        ["delay, s", "mean", "p50", "p99", "max"],
        [
            [name, *(f"{times[each]:.4g}" for each in ("mean", "p50", "p99", "max"))]
            for name, times in (
                ("request to answer", found["delays"]["answer_s"]),
                ("answer to click, of the world", found["delays"]["click_s"]),
                ("held back on the way, of the world", found["delays"]["held_s"]),
            )
            if times
        ],
    )


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {name}" for name, count in value.items()) or "0"
    return number(float(value))


def _warning(tally: Tally) -> str:
    """What a reader of the figures must know first."""
    found = []
    if not tally.kept_pace:
        found.append(
            f"fell behind its clock: {tally.late:,} of {tally.asked:,} requests were more than a second late, at most "
            f"{tally.behind_s:.1f} s; the loop or this machine is slower than {tally.wanted_per_s:.0f} requests/s"
        )
    if tally.unconfirmed:
        found.append(f"{tally.unconfirmed:,} outcomes are not confirmed: {tally.kafka_error}")
    return "\n".join(f"everloop: {each}" for each in found)
