"""Versions that come and go: which are loaded, in what order, and what clients see meanwhile (cases V, T, S, 7.1, 7.5)."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.model_server.faults import ServingError
from tests.model_server.conftest import (
    FAST,
    Served,
    Shelf,
    failure,
    model_config,
    predict_request,
    wait_for,
    write_config,
)
from tests.model_server.models import save, version


@pytest.fixture
def base(tmp_path: Path, shelf: Shelf) -> Path:
    """A base path that holds version 1."""
    shelf.publish(tmp_path / "m", 1)
    return tmp_path / "m"


@pytest.fixture
def server(base: Path, tmp_path: Path) -> Iterator[Served]:
    """A server of model m at that path, latest 1, no retries."""
    config = write_config(tmp_path / "models.config", {"name": "m", "base_path": base})
    with Served(replace(FAST, model_config_file=config)) as running:
        yield running


def _number(server: Served, **spec: Any) -> int:
    return int(server.predict("m", x=[1.0], **spec).outputs["n"].int64_val[0])


class TestPolicies:
    """Which versions are loaded."""

    def test_the_highest_is_served_and_the_one_before_it_goes(self, server: Served, base: Path, shelf: Shelf) -> None:
        shelf.publish(base, 2)  # V-01, T-03
        server.until("m", v1="END", v2="AVAILABLE")
        assert _number(server) == 2
        assert list(server.states("m")) == [2, 1]  # S-02

    def test_a_lower_number_is_passed_over(self, server: Served, base: Path, shelf: Shelf) -> None:  # V-05
        shelf.publish(base, 3)
        server.until("m", v1="END", v3="AVAILABLE")
        shelf.publish(base, 2)
        server.server.service.core.poll()
        shelf.publish(base, 4)
        server.until("m", v4="AVAILABLE", v3="END")
        assert 2 not in server.states("m")

    def test_when_the_served_one_is_removed_the_one_before_it_comes_back(
        self, server: Served, base: Path, shelf: Shelf
    ) -> None:  # V-06
        shelf.publish(base, 2)
        server.until("m", v1="END", v2="AVAILABLE")
        shutil.rmtree(base / "2")
        server.until("m", v1="AVAILABLE", v2="END")
        assert _number(server) == 1

    def test_an_empty_base_path_unloads_everything(self, server: Served, base: Path) -> None:  # V-07, S-08
        shutil.rmtree(base / "1")
        server.until("m", v1="END")
        code, text = failure(lambda: _number(server))
        assert (code, text) == ("NOT_FOUND", "Servable not found for request: Latest(m)")
        reply = server.http("GET", "/v1/models/m")
        assert reply.json["model_version_status"] == [
            {"version": "1", "state": "END", "status": {"error_code": "OK", "error_message": ""}}
        ]

    def test_a_missing_base_path_changes_nothing_for_any_model(self, server: Served, base: Path, shelf: Shelf) -> None:
        other = base.parent / "other"  # V-08
        shelf.publish(other, 1)
        server.reload(model_config({"name": "m", "base_path": base}, {"name": "other", "base_path": other}))
        base.rename(base.parent / "away")
        shelf.publish(other, 2)
        server.server.service.core.poll()
        assert server.states("other") == {1: "AVAILABLE"}
        assert _number(server) == 1
        (base.parent / "away").rename(base)
        server.until("other", v1="END", v2="AVAILABLE")

    def test_a_directory_replaced_in_place_is_not_read_again(self, server: Served, base: Path, shelf: Shelf) -> None:
        shutil.copytree(shelf.publish(base.parent / "x", 5), base.parent / "x5")  # V-09
        shutil.rmtree(base / "1")
        (base.parent / "x5").rename(base / "1")
        server.server.service.core.poll()
        shelf.publish(base.parent / "y", 9)
        assert _number(server) == 1
        assert server.states("m") == {1: "AVAILABLE"}

    def test_a_directory_seen_absent_is_read_again(self, server: Served, base: Path) -> None:  # V-09
        (base / "1").rename(base / "away")
        server.until("m", v1="END")
        (base / "away").rename(base / "1")
        server.until("m", v1="AVAILABLE")

    def test_several_at_once_and_only_the_highest_is_loaded(self, server: Served, base: Path, shelf: Shelf) -> None:
        for number in (2, 3, 4):  # T-07: nothing may poll between
            shelf.publish(base.parent / "staged", number)
        with server.server.service.core.paused():
            for number in (2, 3, 4):
                (base.parent / "staged" / str(number)).rename(base / str(number))
        server.until("m", v4="AVAILABLE", v1="END")
        assert set(server.states("m")) == {1, 4}

    @pytest.mark.parametrize(
        ("policy", "served"),
        [
            pytest.param({"latest": 0}, {3}, id="V-01-zero"),
            pytest.param({"latest": 2}, {3, 2}, id="V-02"),
            pytest.param({"all": True}, {3, 2, 1}, id="V-03"),
            pytest.param({"specific": [1, 3, 9]}, {3, 1}, id="V-04"),
            pytest.param({"specific": [9]}, set(), id="V-04-absent"),
            pytest.param({"specific": []}, set(), id="V-04-empty"),
        ],
    )
    def test_policies(self, server: Served, base: Path, shelf: Shelf, policy: dict[str, Any], served: set[int]) -> None:
        for number in (2, 3):
            shelf.publish(base, number)
        server.reload(model_config({"name": "m", "base_path": base, **policy}))  # L-12: OK at once
        wait_for(lambda: _available(server) == served, lambda: f"{server.states('m')}, not {served}")


def _available(server: Served) -> set[int]:
    return {number for number, state in server.states("m").items() if state == "AVAILABLE"}


@pytest.mark.parametrize(
    "name", ["v1", "1.0", "1_tmp", ".tmp-1", "tmp.1"], ids=lambda name: f"7.1-{name}-is-no-version"
)
def test_other_names_are_passed_over(server: Served, base: Path, shelf: Shelf, name: str) -> None:
    shelf.publish(base.parent / "x", 7).rename(base / name)
    shelf.publish(base, 2)
    server.until("m", v2="AVAILABLE", v1="END")
    assert set(server.states("m")) == {1, 2}


def test_leading_zeros_and_links_are_versions(server: Served, base: Path, shelf: Shelf) -> None:  # 7.1
    (base / "0000123").symlink_to(shelf.publish(base.parent / "x", 7))
    server.until("m", v123="AVAILABLE", v1="END")
    assert _number(server) == 7


class TestUnderLoad:
    """Requests meanwhile."""

    def test_no_request_fails_and_no_client_goes_back(self, server: Served, base: Path, shelf: Shelf) -> None:
        stop = threading.Event()  # T-01, T-02

        def client(ask: Callable[[], int]) -> list[int]:
            seen = [ask()]
            while not stop.is_set():
                seen.append(ask())
            return seen

        def over_rest() -> int:
            reply = server.http("POST", "/v1/models/m:predict", {"inputs": [1.0]})
            assert reply.code == 200, reply.body
            return int(json.loads(reply.body)["outputs"][0])

        with ThreadPoolExecutor(3) as pool:
            clients = [pool.submit(client, ask) for ask in (lambda: _number(server), over_rest)]
            for number in (2, 3, 4, 5):
                shelf.publish(base, number)
                server.until("m", **{f"v{number}": "AVAILABLE", f"v{number - 1}": "END"})
            stop.set()
            for done in clients:
                seen = done.result()
                assert seen == sorted(seen)
                assert {seen[0], seen[-1]} <= {1, 5}

    def test_the_old_one_stays_until_the_new_one_is_there(self, server: Served, base: Path, shelf: Shelf) -> None:
        history: list[dict[int, str]] = []  # T-03
        board = server.server.service.core.board
        publish = board.publish

        def record(*args: Any, **kwargs: Any) -> None:
            publish(*args, **kwargs)
            history.append(server_states(board))

        board.publish = record  # type: ignore[method-assign]
        shelf.publish(base, 2)
        server.until("m", v1="END", v2="AVAILABLE")
        assert history == [
            {1: "AVAILABLE", 2: "START"},
            {1: "AVAILABLE", 2: "LOADING"},
            {1: "AVAILABLE", 2: "AVAILABLE"},
            {1: "UNLOADING", 2: "AVAILABLE"},
            {1: "END", 2: "AVAILABLE"},
        ]

    def test_a_request_ends_on_the_version_it_began_on(self, tmp_path: Path, shelf: Shelf) -> None:  # T-05, T-06
        base = tmp_path / "slow"
        shelf.publish(base, 1, name="slow")
        config = write_config(tmp_path / "c", {"name": "slow", "base_path": base, "latest": 1})
        with Served(replace(FAST, model_config_file=config)) as server, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: server.predict("slow", x=[1.0]))
            wait_for(lambda: _users(server, "slow", 1) == 1, lambda: "the request never began")
            shelf.publish(base, 2, name="slow")
            server.until("slow", v1="UNLOADING", v2="AVAILABLE")
            assert server.predict("slow", signature="quick", x=[1.0]).model_spec.version.value == 2
            assert not waiting.done()
            old = server.old  # type: ignore[attr-defined]
            # What releases it goes past the server: it may be cut off itself once the request is through.
            with suppress(ServingError):
                old.bundle.run(("x:0",), [_ones()], (old.bundle.signatures["release"].outputs["y"],))
            assert waiting.result().model_spec.version.value == 1
            server.until("slow", v1="END")
            code, text = failure(lambda: server.predict("slow", version=1, x=[1.0]))
            assert (code, text) == ("NOT_FOUND", "Servable not found for request: Specific(slow, 1)")


def _ones() -> Any:
    import numpy as np

    return np.ones(1, np.float32)


def _users(server: Served, model: str, number: int) -> int:
    servable = server.server.service.core.servable(model, number)
    server.old = servable  # type: ignore[attr-defined]
    return servable.users


def server_states(board: Any) -> dict[int, str]:
    """Version → state of model m."""
    return {number: status.state.name for number, status in sorted(board.versions("m").items())}


def _damage(path: Path, how: str) -> None:
    variables = path / "variables"
    shard = variables / "variables.data-00000-of-00001"
    match how:
        case "no model":
            (path / "saved_model.pb").unlink()
        case "empty model":
            (path / "saved_model.pb").write_bytes(b"")
        case "truncated model":
            data = (path / "saved_model.pb").read_bytes()
            (path / "saved_model.pb").write_bytes(data[: len(data) // 2])
        case "no variables":
            shutil.rmtree(variables)
        case "no index":
            (variables / "variables.index").unlink()
        case "no shard":
            shard.unlink()
        case "truncated shard":
            shard.write_bytes(shard.read_bytes()[:-4])
        case "truncated index":
            (variables / "variables.index").write_bytes(b"\0" * 10)
        case "a file":
            shutil.rmtree(path)
            path.write_bytes(b"")


DAMAGES = [
    pytest.param("no model", "NOT_FOUND", "Could not find SavedModel .pb or .pbtxt", id="7.5-no-model"),
    pytest.param(
        "empty model",
        "NOT_FOUND",
        "Could not find meta graph def matching supplied tags: { serve }",
        id="7.5-empty-model",
    ),
    pytest.param("truncated model", "OUT_OF_RANGE", "Read less bytes than requested", id="7.5-truncated-model"),
    pytest.param("no variables", "NOT_FOUND", "variables.index", id="7.5-no-variables"),
    pytest.param("no index", "NOT_FOUND", "variables.index", id="7.5-no-index"),
    pytest.param(
        "no shard", "NOT_FOUND", "variables.data-00000-of-00001; No such file or directory", id="7.5-no-shard"
    ),
    pytest.param("truncated shard", "OUT_OF_RANGE", "Read less bytes than requested", id="7.5-truncated-shard"),
    pytest.param("truncated index", "DATA_LOSS", "file is too short to be an sstable", id="7.5-truncated-index"),
    pytest.param("a file", "NOT_FOUND", "Could not find SavedModel .pb or .pbtxt", id="7.1-plain-file"),
]


@pytest.mark.parametrize(("how", "code", "text"), DAMAGES)
def test_a_damaged_version_is_refused_and_the_old_one_serves_on(
    server: Served, base: Path, shelf: Shelf, how: str, code: str, text: str
) -> None:  # T-08, S-07
    _damage(shelf.publish(base.parent / "x", 2), how)
    (base.parent / "x" / "2").rename(base / "2")
    server.until("m", v2="END", v1="AVAILABLE")
    entry = server.http("GET", "/v1/models/m/versions/2").json["model_version_status"][0]
    assert (entry["state"], entry["status"]["error_code"]) == ("END", code)
    assert text in entry["status"]["error_message"]
    assert _number(server) == 1
    shelf.publish(base, 3)  # T-09
    server.until("m", v3="AVAILABLE", v1="END")


def test_a_broken_version_that_is_mended_too_late_is_not_tried_again(server: Served, base: Path, shelf: Shelf) -> None:
    good = shelf.publish(base.parent / "x", 2)  # T-10
    (base / "2").mkdir()
    server.until("m", v2="END")
    shutil.rmtree(base / "2")
    good.rename(base / "2")
    for _ in range(3):
        server.server.service.core.poll()
    assert server.states("m") == {2: "END", 1: "AVAILABLE"}
    (base / "2").rename(base / "away")
    server.server.service.core.poll()
    wait_for(lambda: not server.server.service.core.managed("m", 2), lambda: "version 2 is still managed")
    (base / "away").rename(base / "2")
    server.until("m", v2="AVAILABLE", v1="END")


def test_a_broken_version_that_is_mended_in_time_is_loaded(tmp_path: Path, shelf: Shelf) -> None:  # T-10, T-12
    base = tmp_path / "m"
    shelf.publish(base, 1)
    flags = replace(FAST, max_num_load_retries=10_000, load_retry_interval_micros=20_000)
    with Served(
        replace(flags, model_config_file=write_config(tmp_path / "c", {"name": "m", "base_path": base}))
    ) as server:
        (base / "2").mkdir()
        server.until("m", v2="LOADING", v1="AVAILABLE")
        good = shelf.publish(tmp_path / "x", 2)
        (base / "2").rmdir()
        good.rename(base / "2")
        server.until("m", v2="AVAILABLE", v1="END")


def test_a_version_withdrawn_while_it_loads_is_cancelled(tmp_path: Path, shelf: Shelf) -> None:  # T-11
    base = tmp_path / "m"
    shelf.publish(base, 1)
    flags = replace(FAST, max_num_load_retries=10_000, load_retry_interval_micros=60_000_000)
    with Served(
        replace(flags, model_config_file=write_config(tmp_path / "c", {"name": "m", "base_path": base}))
    ) as server:
        (base / "2").mkdir()
        server.until("m", v2="LOADING")
        (base / "2").rmdir()
        server.until("m", v2="END", v1="AVAILABLE")
        status = server.server.service.core.board.versions("m")[2]
        assert status.error is not None
        assert status.error.status == "CANCELLED: Loading of servable cancelled"


def test_attempts_are_one_more_than_retries(tmp_path: Path, shelf: Shelf) -> None:  # T-12
    base = tmp_path / "m"
    shelf.publish(base, 1)
    flags = replace(FAST, max_num_load_retries=2, load_retry_interval_micros=1000)
    with Served(
        replace(flags, model_config_file=write_config(tmp_path / "c", {"name": "m", "base_path": base}))
    ) as server:
        (base / "2").mkdir()
        server.until("m", v2="END")
        attempts = server.server.service.metrics.load_attempts.cells
        assert attempts[(str(base / "2"), "fail")] == 3


def test_a_start_with_a_broken_only_version_fails(tmp_path: Path) -> None:  # T-13
    (tmp_path / "m" / "1").mkdir(parents=True)
    config = write_config(tmp_path / "c", {"name": "m", "base_path": tmp_path / "m"})
    with pytest.raises(ServingError) as caught, Served(replace(FAST, model_config_file=config)):
        raise AssertionError("it started")
    assert caught.value.status.startswith(
        "UNKNOWN: 1 servable(s) did not become available: {{name: m version: 1} due to"
    )


def test_a_start_waits_for_the_first_version(tmp_path: Path, shelf: Shelf) -> None:  # T-14
    base = tmp_path / "m"
    base.mkdir()
    server = Served(replace(FAST, model_config_file=write_config(tmp_path / "c", {"name": "m", "base_path": base})))
    with ThreadPoolExecutor(1) as pool:
        entered = pool.submit(server.__enter__)
        wait_for(lambda: hasattr(server, "server"), lambda: "the server was never made")
        assert server.server.grpc_port == 0
        shelf.publish(base, 1)
        entered.result()
    assert _number(server) == 1
    server.__exit__()


def test_many_swaps_keep_memory_bounded(server: Served, base: Path, tmp_path: Path) -> None:  # T-17
    import gc

    from serving.model_server.bundle import Bundle

    for number in (2, 3, 4, 5):
        save(tmp_path / "x", version(number)).rename(base / str(number))
        server.until("m", **{f"v{number}": "AVAILABLE", f"v{number - 1}": "END"})
    gc.collect()
    bundles = [kept for kept in gc.get_objects() if isinstance(kept, Bundle) and hasattr(kept, "path")]
    alive = [bundle.path for bundle in bundles if bundle.path.startswith(str(base))]
    assert alive == [str(base / "5")]


def test_a_model_left_out_is_unloaded_and_its_status_stays(server: Served, base: Path, shelf: Shelf) -> None:
    other = shelf.publish(base.parent / "other", 1).parent  # S-09, L-04
    server.reload(model_config({"name": "other", "base_path": other}))
    server.until("m", v1="END")
    assert server.http("GET", "/v1/models/m").code == 200
    assert failure(lambda: server.prediction.Predict(predict_request("m", x=[1.0])))[0] == "NOT_FOUND"
