"""Whose turn comes first: threads that answer before threads that load."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from feedback import turns
from serving.model_server.faults import Code, ServingError
from serving.model_server.lifecycle import Lifecycle, LifecycleSettings
from serving.model_server.servables import Servable
from serving.model_server.status import StatusBoard

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> T:
    """The result of some work in a thread of its own: what it asks of Linux ends with it."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def niceness() -> int:
    """Of this thread."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_that_answers_is_as_nice_as_before() -> None:
    assert in_thread(lambda: (turns.answer(), niceness())) == (True, niceness())


def test_a_thread_that_stands_back_is_nicer_and_no_other_is() -> None:
    before = niceness()
    assert in_thread(lambda: (turns.stand_back(), niceness())) == (True, min(19, before + turns.BACK))
    assert niceness() == before


def test_versions_beside_those_that_serve_are_loaded_by_a_thread_that_stands_back() -> None:
    seen: list[int] = []
    loaded = threading.Event()

    def load(model: str, version: int, path: str) -> Servable:
        seen.append(niceness())
        loaded.set()
        raise ServingError(Code.NOT_FOUND, path)

    life = Lifecycle(load, StatusBoard(), LifecycleSettings(load_threads=1, max_retries=0))
    life.start()
    life.aspire("news", {1: "first"})
    assert loaded.wait(10)
    life.started()
    loaded.clear()
    life.aspire("news", {2: "second"})
    assert loaded.wait(10)
    life.stop()
    assert seen == [niceness(), min(19, niceness() + turns.BACK)]
