"""`everloop versions`, `pin`, `unpin`, `rollback`, `resume`, `canary …`, `explain`: what lives, and what shall."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal

import typer

from everloop.commands.options import Data, File, Json, print_json, print_table
from everloop.session import Session, open_session
from feedback.errors import UnavailableError
from feedback.settings import KafkaSettings
from feedback.versions import Control

Version = Annotated[
    int, typer.Argument(metavar="VERSION", min=1, help="Number of a version, as `everloop versions` lists it.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why: stands in the control record and in `everloop versions`.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Don't wait until the replicas have carried it out.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("versions")(versions)
    app.command("pin")(pin)
    app.command("unpin")(unpin)
    app.command("rollback")(rollback)
    app.command("resume")(resume)
    app.command("explain")(explain)
    canary = typer.Typer(help="Send a share of the users to another version and compare.", no_args_is_help=True)
    canary.command("start")(canary_start)
    canary.command("stop")(canary_stop)
    canary.command("promote")(canary_promote)
    app.add_typer(canary, name="canary")


def versions(data: Data = None, config: File = None, as_json: Json = False) -> None:
    """List the versions: where each stands in its life, on which replicas it is loaded and how far it has come there."""
    from everloop.steer import topics
    from everloop.steer.versions import rows

    session = open_session(data, config)
    kafka, model = _place(session)
    control, replicas = topics.control(kafka, model), topics.replicas(kafka, model)
    found = rows(topics.events(kafka, model), control, replicas)
    if as_json:
        print_json({"model": model, "control": control, "replicas": replicas, "versions": found})
        return
    print_table(
        ["version", "state", "epoch", "exported at", "exported (UTC)", "loaded on", "note"],
        [
            [
                f"{row.version}{' (pinned)' if row.pinned else ''}",
                row.state,
                str(row.epoch),
                str(row.sequence),
                _time(row.exported),
                ", ".join(f"{name} at {sequence}" for name, sequence in row.replicas.items()),
                row.reason,
            ]
            for row in found
        ],
    )
    for line in _orders(control):
        print(line)


def pin(
    version: Version, reason: Reason = "", no_wait: NoWait = False, data: Data = None, config: File = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Keep a version live, whatever is exported, until `unpin`."""
    from everloop.steer import orders
    from everloop.steer.control import until_live

    _order(
        open_session(data, config),
        lambda control, known: orders.pin(control, known, version),
        reason=reason or f"pin {version}",
        missing=None if no_wait else until_live(version),
        as_json=as_json,
    )


def unpin(reason: Reason = "", data: Data = None, config: File = None, as_json: Json = False) -> None:
    """Let the newest version that passed the gate be live again."""
    from everloop.steer import orders

    _order(
        open_session(data, config), lambda control, _: orders.unpin(control), reason=reason or "unpin", as_json=as_json
    )


def rollback(
    version: Annotated[int | None, typer.Argument(metavar="[VERSION]", min=1)] = None,
    reason: Reason = "", no_wait: NoWait = False, data: Data = None, config: File = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Go back to the state of a kept version (default: the one before live); nothing new goes out until `resume`.

    The trainer makes a new version from that one's checkpoint, with a higher epoch; deltas of before are not applied any more.
    """
    from everloop.steer import orders, topics
    from everloop.steer.control import until_epoch

    session = open_session(data, config)
    kafka, model = _place(session)

    def change(control: Control, known: Any) -> Control:
        live = max((replica.live for replica in topics.replicas(kafka, model)), default=0)
        return orders.rollback(control, known, version or orders.before(known, live))

    _order(
        session,
        change,
        reason=reason or "rollback",
        missing=None,
        after=None if no_wait else lambda control: until_epoch(control.epoch),
        event="rolled_back",
        as_json=as_json,
    )


def resume(
    relearn: Annotated[bool, typer.Option("--relearn", help="Learn what came since once more.")] = False,
    skip: Annotated[bool, typer.Option("--skip", help="Leave out what came since.")] = False,
    reason: Reason = "", data: Data = None, config: File = None, as_json: Json = False,
) -> None:  # fmt: skip
    """After a rollback or a refusal: let deltas and versions out again."""
    from everloop.steer import orders

    if relearn == skip:
        raise typer.BadParameter("one of --relearn and --skip is needed")
    _order(
        open_session(data, config),
        lambda control, _: orders.resume(control, "relearn" if relearn else "skip"),
        reason=reason or f"resume --{'relearn' if relearn else 'skip'}",
        as_json=as_json,
    )


def canary_start(
    version: Version,
    share: Annotated[float, typer.Option("--share", help="Share of the users, above 0 and below 1.")] = 0.1,
    reason: Reason = "", no_wait: NoWait = False, data: Data = None, config: File = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Send a share of the users to a version; it is judged by clicks per request."""
    from everloop.steer import orders
    from everloop.steer.control import until_canary
    from feedback.clock import now_us

    _order(
        open_session(data, config),
        lambda control, known: orders.start_canary(control, known, version, share=share, now=now_us()),
        reason=reason or f"canary {version} for {share:.0%} of the users",
        missing=None if no_wait else until_canary(version),
        as_json=as_json,
    )


def canary_stop(reason: Reason = "", data: Data = None, config: File = None, as_json: Json = False) -> None:
    """Send all users to the live version again; the canary's version is dropped."""
    from everloop.steer import orders

    _order(
        open_session(data, config), lambda control, _: orders.drop_canary(control), reason=reason or "canary stop",
        event="dropped", as_json=as_json,
    )  # fmt: skip


def canary_promote(
    reason: Reason = "", no_wait: NoWait = False, data: Data = None, config: File = None, as_json: Json = False
) -> None:
    """Make the canary's version, and what its line makes after it, live."""
    from everloop.steer import orders
    from everloop.steer.control import until_live

    _order(
        open_session(data, config),
        lambda control, _: orders.promote_canary(control),
        reason=reason or "canary promote",
        after=None if no_wait else lambda control: until_live(control.version),
        event="promoted",
        as_json=as_json,
    )


def explain(request_id: str, data: Data = None, config: File = None, as_json: Json = False) -> None:
    """Say what the model had learned when it answered a request, and which deltas carried what the request taught it."""
    from everloop.steer.explain import explain as follow

    session = open_session(data, config)
    kafka, model = _place(session)
    root = session.folders
    found = follow(
        kafka, request_id, folders=[root.models / model, root.serving / model],
        storage=session.loaded.config.follower.storage,
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    from everloop.steer.text import told

    print("\n".join(told(found)))


def _order(
    session: Session,
    change: Callable[[Control, Any], Control],
    *,
    reason: str,
    missing: Any = None,
    after: Callable[[Control], Any] | None = None,
    event: Literal["", "rolled_back", "promoted", "dropped"] = "",
    as_json: bool = False,
) -> None:
    """Write an order, say it, wait for the replicas."""
    from everloop.steer import control as steer
    from everloop.steer import topics

    kafka, model = _place(session)
    by = f"command ({_user()})"
    before = topics.control(kafka, model) if event else None
    written = steer.write(kafka, model, change, by=by, reason=reason)
    if event:
        version = written.version if event != "dropped" else before.canary.version if before and before.canary else 0
        steer.tell_of(kafka, model, version, event, by=by, reason=reason, epoch=written.epoch)
    missing = after(written) if after else missing
    left = []
    if missing:
        settings = session.loaded.config.steer
        say = partial(print, file=sys.stderr)
        left = steer.wait(kafka, model, missing, timeout_s=settings.wait_s, silent_s=settings.silent_s, say=say)
    if as_json:
        print_json({"control": written, "waiting_for": left})
    else:
        print("\n".join([*_orders(written), *(f"not yet: {line}" for line in left)]) or "nothing is ordered")
    if left:
        raise UnavailableError("the order is written; not every replica has carried it out yet")


def _orders(control: Control) -> list[str]:
    lines = []
    if control.pinned:
        lines.append(f"version {control.version} is pinned")
    elif control.version:
        lines.append(f"version {control.version} or a later one of its line shall be live")
    if control.paused:
        lines.append("deltas and versions are paused: `everloop resume --relearn` or `--skip`")
    if control.canary:
        lines.append(f"version {control.canary.version} is the canary for {control.canary.share:.0%} of the users")
    if control.epoch:
        lines.append(f"epoch {control.epoch} or later")
    if control.reason:
        lines.append(f"by {control.by} at {_time(control.time)}: {control.reason}")
    return lines


def _place(session: Session) -> tuple[KafkaSettings, str]:
    """The broker, and the model's name."""
    from everloop.broker import reach

    return reach(session), session.loaded.config.follower.model


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _time(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S") if micros else ""
