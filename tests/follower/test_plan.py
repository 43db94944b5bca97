"""What to do next: a table of situations, and a server that is driven at random."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.versions import Canary, Control
from serving.follower.order import Position, Rule
from serving.follower.plan import (
    Action,
    Configure,
    Fetch,
    Forget,
    Known,
    Limits,
    Loaded,
    Promote,
    Refuse,
    State,
    View,
    decide,
    rule,
    targets,
)

LIMITS = Limits(first_live_s=5, drain_s=2, keep=2)


def known(version: int, **fields: Any) -> Known:
    return replace(Known(version=version, line="a", epoch=1, sequence=10 * version, uri="u", passed=True), **fields)


def versions(*all_: Known) -> dict[int, Known]:
    return {each.version: each for each in all_}


def up(sequence: int, epoch: int = 1, **fields: Any) -> Loaded:
    return replace(Loaded(state=State.AVAILABLE, at=Position(epoch, sequence), caught_up=True), **fields)


LOADING = Loaded(state=State.LOADING)
ONE = Configure((1,), (("live", 1),))
LIVE_1 = View(now=100, known=versions(known(1)), local=frozenset({1}), loaded={1: up(10)}, labels={"live": 1}, sent=ONE)


@dataclass
class Case:
    """A situation and what follows from it."""

    what: str
    view: View
    action: Action | None


CASES = [
    Case("nothing is known", View(now=0), None),
    Case("a version did not pass the gate", View(now=0, known=versions(known(1, passed=False))), None),
    Case("a version passed the gate", View(now=0, known=versions(known(1))), Fetch(1)),
    Case("it is being downloaded", View(now=0, known=versions(known(1)), fetching=frozenset({1})), None),
    Case("it is on disk", View(now=0, known=versions(known(1)), local=frozenset({1})), Configure((1,))),
    Case(
        "it is loading",
        View(now=0, known=versions(known(1)), local=frozenset({1}), loaded={1: LOADING}, sent=Configure((1,))),
        None,
    ),
    Case(
        "it is loaded and caught up",
        View(now=0, known=versions(known(1)), local=frozenset({1}), loaded={1: up(10)}, sent=Configure((1,))),
        Promote(1, "live"),
    ),
    Case(
        "nothing is live and it still catches up",
        View(
            now=4, known=versions(known(1)), local=frozenset({1}), loaded={1: up(10, caught_up=False)},
            sent=Configure((1,)),
        ),
        None,
    ),
    Case(
        "nothing is live and it has had its time to catch up",
        View(
            now=5, known=versions(known(1)), local=frozenset({1}), loaded={1: up(10, caught_up=False)},
            sent=Configure((1,)),
        ),
        Promote(1, "live"),
    ),
    Case("all is as it shall be", LIVE_1, None),
    Case("this process has just begun", replace(LIVE_1, sent=None), ONE),
    Case("a newer version", replace(LIVE_1, known=versions(known(1), known(2))), Fetch(2)),
    Case(
        "a newer version is on disk: beside the old one",
        replace(LIVE_1, known=versions(known(1), known(2)), local=frozenset({1, 2})),
        Configure((1, 2), (("live", 1),)),
    ),
    Case(
        "a still newer version, while one is loading: that one first",
        replace(
            LIVE_1, known=versions(known(1), known(2), known(3)), local=frozenset({1, 2}),
            loaded={1: up(10), 2: LOADING}, sent=Configure((1, 2), (("live", 1),)),
        ),
        None,
    ),
    Case(
        "the newer version has not caught up",
        replace(
            LIVE_1, known=versions(known(1), known(2)), local=frozenset({1, 2}),
            loaded={1: up(30), 2: up(20, caught_up=False)}, sent=Configure((1, 2), (("live", 1),)),
        ),
        None,
    ),
    Case(
        "the newer version can't catch up",
        replace(
            LIVE_1, known=versions(known(1), known(2)), local=frozenset({1, 2}),
            loaded={1: up(30), 2: up(20, caught_up=False, stuck="gap")}, sent=Configure((1, 2), (("live", 1),)),
        ),
        Refuse(2, "can't catch up: gap"),
    ),
    Case(
        "the newer version failed to load",
        replace(
            LIVE_1, known=versions(known(1), known(2)), local=frozenset({1, 2}),
            loaded={1: up(30), 2: Loaded(state=State.FAILED, error="bad")}, sent=Configure((1, 2), (("live", 1),)),
        ),
        Refuse(2, "could not be loaded: bad"),
    ),
    Case(
        "it was refused: the old one alone stays",
        replace(
            LIVE_1, known=versions(known(1), known(2)), local=frozenset({1, 2}), unusable={2: "bad"},
            loaded={1: up(30), 2: Loaded(state=State.FAILED, error="bad")}, sent=Configure((1, 2), (("live", 1),)),
        ),
        ONE,
    ),
    Case(
        "the label has moved: the old one drains",
        replace(
            LIVE_1, known=versions(known(1), known(2)), local=frozenset({1, 2}), loaded={1: up(30), 2: up(30)},
            labels={"live": 2}, left={1: 99}, sent=Configure((1, 2), (("live", 2),)),
        ),
        None,
    ),
    Case(
        "the old one has drained",
        replace(
            LIVE_1, known=versions(known(1), known(2)), local=frozenset({1, 2}), loaded={1: up(30), 2: up(30)},
            labels={"live": 2}, left={1: 98}, sent=Configure((1, 2), (("live", 2),)),
        ),
        Configure((2,), (("live", 2),)),
    ),
    Case(
        "live differs from the trainer, an older base of the line is there",
        replace(
            LIVE_1, known=versions(known(1), known(2)), local=frozenset({1, 2}), loaded={2: up(30, tainted=True)},
            labels={"live": 2}, sent=Configure((2,), (("live", 2),)),
        ),
        Configure((1, 2), (("live", 2),)),
    ),
    Case(
        "live differs from the trainer and nothing can stand in: it is unloaded, to be loaded anew",
        replace(LIVE_1, loaded={1: up(10, tainted=True)}),
        Configure(()),
    ),
    Case(
        "a rollback, the new base is not made yet, the old one is not loaded: it stands in",
        replace(
            LIVE_1, known=versions(known(1), known(2)), local=frozenset({2}), loaded={2: up(30)}, labels={"live": 2},
            sent=Configure((2,), (("live", 2),)), control=Control(model="m", version=1, epoch=2, paused=True),
        ),
        Fetch(1),
    ),
    Case(
        "a rollback to a version that is loaded and has gone on: what is live stays",
        replace(
            LIVE_1, known=versions(known(1)), loaded={1: up(30)},
            control=Control(model="m", version=1, epoch=2, paused=True),
        ),
        None,
    ),
    Case(
        "a rollback, the new base is there",
        replace(
            LIVE_1, known=versions(known(1), known(2, epoch=2)), loaded={1: up(30)},
            control=Control(model="m", version=1, epoch=2, paused=True),
        ),
        Fetch(2),
    ),
    Case(
        "paused: nothing new becomes live",
        replace(LIVE_1, known=versions(known(1), known(2)), control=Control(model="m", paused=True)),
        None,
    ),
    Case(
        "pinned: nothing new becomes live",
        replace(LIVE_1, known=versions(known(1), known(2)), control=Control(model="m", version=1, pinned=True)),
        None,
    ),
    Case(
        "pinned to an older version",
        replace(
            LIVE_1, known=versions(known(1), known(2)), local=frozenset({2}), loaded={2: up(30)}, labels={"live": 2},
            sent=Configure((2,), (("live", 2),)), control=Control(model="m", version=1, pinned=True),
        ),
        Fetch(1),
    ),
    Case(
        "a version of another line, on trial, is not live by itself",
        replace(
            LIVE_1, known=versions(known(1), known(2, line="b"), known(3, line="b")), local=frozenset({1, 2}),
            loaded={1: up(10), 2: up(20)}, labels={"live": 1, "canary": 2},
            sent=Configure((1, 2), (("canary", 2), ("live", 1))),
            control=Control(model="m", canary=Canary(version=2, share=0.1, started=0)),
        ),
        None,
    ),
    Case(
        "a version that is set aside is not live by itself",
        replace(LIVE_1, known=versions(known(1), known(2, aside=True))),
        None,
    ),
    Case(
        "the canary is over",
        replace(
            LIVE_1, known=versions(known(1), known(2, aside=True)), local=frozenset({1, 2}),
            loaded={1: up(10), 2: up(20)}, labels={"live": 1, "canary": 2},
            sent=Configure((1, 2), (("canary", 2), ("live", 1))), control=Control(model="m"),
        ),
        ONE,
    ),
    Case(
        "a promoted canary's line goes on, the old line's newer versions do not come back",
        replace(
            LIVE_1, known=versions(known(1), known(2, line="b", aside=True), known(3)), local=frozenset({1, 2}),
            loaded={1: up(10), 2: up(20)}, sent=Configure((1, 2), (("live", 1),)),
            control=Control(model="m", version=2),
        ),
        Promote(2, "live"),
    ),
    Case(
        "more versions on disk than are kept",
        replace(
            LIVE_1, known=versions(*(known(v) for v in range(1, 6))), local=frozenset(range(1, 6)),
            loaded={5: up(50)}, labels={"live": 5}, sent=Configure((5,), (("live", 5),)),
        ),
        Forget(1),
    ),
    Case(
        "a newer version that is no longer in the store",
        replace(LIVE_1, known=versions(known(1), known(2, removed=True))),
        None,
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_what_follows(case: Case) -> None:
    assert decide(case.view, LIMITS) == case.action


def test_a_canary_of_lives_line_stands_still_and_one_of_its_own_line_goes_on() -> None:
    control = Control(model="m", canary=Canary(version=2, share=0.1, started=0))
    view = replace(LIVE_1, known=versions(known(1), known(2)), control=control)
    assert rule(view, 2).frozen
    assert not rule(view, 1).frozen
    assert not rule(replace(view, known=versions(known(1), known(2, line="b"))), 2).frozen


def test_after_a_rollback_no_delta_of_an_epoch_that_is_over_is_applied() -> None:
    view = replace(LIVE_1, control=Control(model="m", version=1, epoch=2, paused=True, time=7))
    assert rule(view, 1) == Rule(floor=2, frozen=True, until=7)


@dataclass
class World:
    """A model server and the records, without time: what an action does to them."""

    view: View
    served: list[int] = field(default_factory=list)

    def act(self, action: Action | None) -> None:
        view = self.view
        match action:
            case Fetch(version):
                self.view = replace(view, local=view.local | {version})
            case Configure(wanted, labels):
                for version in dict(labels).values():
                    assert view.loaded[version].state is State.AVAILABLE, "a label may only stand on what answers"
                live = view.labels.get("live", 0)
                tainted = live in view.loaded and view.loaded[live].tainted
                assert not live or live in wanted or tainted, "live is never unloaded"
                stay = {v: loaded for v, loaded in view.loaded.items() if v in wanted}
                new = {v: LOADING for v in wanted if v not in stay and v in view.local}
                self.view = replace(view, loaded=stay | new, labels=dict(labels), sent=action)
            case Promote(version, label):
                assert view.loaded[version].state is State.AVAILABLE
                assert view.sent is not None
                moved = {**view.labels, label: version}
                old = view.labels.get(label, 0)
                left = {**view.left, old: view.now} if old else view.left
                sent = Configure(view.sent.versions, tuple(sorted(moved.items())))
                self.view = replace(view, labels=moved, left=left, sent=sent)
            case Refuse(version, reason):
                self.view = replace(view, unusable={**view.unusable, version: reason})
            case Forget(version):
                assert version not in view.loaded
                self.view = replace(view, local=view.local - {version})

    def settle(self) -> None:
        """Let time pass and decide until nothing is left to do."""
        for _ in range(60):
            action = decide(self.view, LIMITS)
            self.act(action)
            self.view = replace(self.view, now=self.view.now + 1)
            ready = {
                v: up(self.view.known[v].sequence, self.view.known[v].epoch)
                if loaded.state is State.LOADING
                else loaded
                for v, loaded in self.view.loaded.items()
            }
            changed, self.view = ready != self.view.loaded, replace(self.view, loaded=ready)
            if action is None and not changed and not self.view.left:
                return
            left = {v: at for v, at in self.view.left.items() if v in self.view.loaded}
            self.view = replace(self.view, left=left)
        raise AssertionError(f"never settles: {decide(self.view, LIMITS)}")


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("export"), st.booleans()),
        st.tuples(st.just("restart server"), st.just(True)),
        st.tuples(st.just("restart follower"), st.just(True)),
        st.tuples(st.just("taint"), st.just(True)),
        st.tuples(st.just("rollback"), st.booleans()),
        st.tuples(st.just("pin"), st.integers(1, 4)),
        st.tuples(st.just("unpin"), st.just(True)),
        st.tuples(st.just("refuse live"), st.just(True)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_whatever_happens_it_settles_with_what_shall_be_live(events: list[tuple[str, Any]]) -> None:
    world = World(View(now=0, known=versions(known(1)), control=Control(model="m")))
    world.settle()
    for name, value in events:
        view = world.view
        control = view.control or Control(model="m")
        newest, live = max(view.known), view.labels.get("live", 0)
        match name:
            case "export":
                fresh = known(newest + 1, passed=value, epoch=max(control.epoch, 1))
                world.view = replace(view, known={**view.known, fresh.version: fresh})
            case "restart server":
                world.view = replace(view, loaded={}, labels={}, left={}, sent=None)
            case "restart follower":
                world.view = replace(view, left={}, sent=None)
            case "taint" if live:
                world.view = replace(view, loaded={**view.loaded, live: replace(view.loaded[live], tainted=True)})
            case "rollback":
                epoch = control.epoch + 2
                made = known(newest + 1, epoch=epoch)
                world.view = replace(
                    view, known={**view.known, made.version: made} if value else view.known,
                    control=Control(model="m", version=max(live, 1), epoch=epoch, paused=True),
                )  # fmt: skip
            case "pin" if value in view.known:
                world.view = replace(view, control=Control(model="m", version=value, pinned=True, epoch=control.epoch))
            case "unpin":
                world.view = replace(view, control=Control(model="m", epoch=control.epoch))
            case "refuse live" if live and live != 1:
                refused = {**view.known, live: replace(view.known[live], refused=True)}
                world.view = replace(view, known=refused)
        world.settle()
        goal = targets(world.view)
        assert world.view.labels.get("live", 0) == goal.live
        assert set(world.view.loaded) == ({goal.live} - {0})
