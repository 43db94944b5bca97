"""HandleReloadConfigRequest and labels (cases L and B)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.faults import ServingError
from tests.model_server.conftest import FAST, Served, Shelf, failure, model_config, wait_for, write_config


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Path:
    """Base paths m (versions 1 and 2), n (version 1) and broken (version 1)."""
    root = tmp_path_factory.mktemp("reload")
    for number in (1, 2):
        shelf.publish(root / "m", number)
    shelf.publish(root / "n", 1)
    (root / "broken" / "1").mkdir(parents=True)
    return root


@pytest.fixture
def server(bases: Path, tmp_path: Path) -> Iterator[Served]:
    """A server of model m, both versions."""
    config = write_config(tmp_path / "c", _m(bases))
    with Served(replace(FAST, model_config_file=config)) as running:
        running.until("m", v1="AVAILABLE", v2="AVAILABLE")
        yield running


def _m(bases: Path, **more: Any) -> dict[str, Any]:
    return {"name": "m", "base_path": bases / "m", "specific": [1, 2], **more}


def _n(bases: Path, **more: Any) -> dict[str, Any]:
    return {"name": "n", "base_path": bases / "n", **more}


def _answered(server: Served, **spec: Any) -> int:
    return int(server.predict("m", x=[1.0], **spec).model_spec.version.value)


def test_a_reload_returns_when_new_models_answer(server: Served, bases: Path) -> None:  # L-01
    answer = server.reload(model_config(_m(bases), _n(bases)))
    assert answer.status.error_code == 0
    assert server.predict("n", x=[1.0]).model_spec.version.value == 1


@pytest.mark.parametrize("custom", [False, True], ids=["L-02-unset", "L-02-custom"])
def test_only_a_list_of_models_is_taken(server: Served, custom: bool) -> None:
    config = model_server_config_pb2.ModelServerConfig()
    if custom:
        config.custom_model_config.SetInParent()
    assert failure(lambda: server.reload(config)) == (
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported",
    )


def test_an_empty_list_unloads_everything(server: Served) -> None:  # L-03
    server.reload(model_config())
    server.until("m", v1="END", v2="END")


BAD: list[Any] = [
    pytest.param(lambda b: [_m(b), _m(b)], "Illegal to list model m multiple times in config list", id="L-05"),
    pytest.param(
        lambda b: [{"name": "m", "base_path": "rel"}],
        "Expected model m to have an absolute path or URI; got base_path()=rel",
        id="L-06",
    ),
    pytest.param(
        lambda b: [_m(b, platform="")],
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, model "
        "name is m",
        id="L-07",
    ),
    pytest.param(lambda b: [_m(b), _n(b, platform="P")], "Model n requests unsupported platform P", id="L-08"),
    pytest.param(lambda b: [_m(b, platform="P")], "Illegal to change a model's platform. For model m", id="L-09"),
]


@pytest.mark.parametrize(("entries", "text"), BAD)
def test_a_wrong_configuration_is_refused_and_changes_nothing(
    server: Served, bases: Path, entries: Any, text: str
) -> None:  # also L-15, where we are better
    code, details = failure(lambda: server.reload(model_config(*entries(bases))))
    assert code == "INVALID_ARGUMENT"
    assert details.startswith(text)
    assert _answered(server) == 2


def test_a_new_model_that_cannot_be_loaded_fails_the_reload(server: Served, bases: Path) -> None:  # L-10
    broken = {"name": "broken", "base_path": bases / "broken"}
    code, text = failure(lambda: server.reload(model_config(_m(bases), broken)))
    assert code == "UNKNOWN"
    assert text.startswith("1 model(s) did not become available: {{name: broken version: 1} due to error: NOT_FOUND: ")
    assert _answered(server) == 2


def test_a_new_model_without_a_version_blocks_until_its_caller_leaves(server: Served, bases: Path) -> None:  # L-11
    missing = {"name": "x", "base_path": bases / "missing"}
    code, _ = failure(lambda: server.reload(model_config(_m(bases), missing), timeout=0.5))
    assert code == "DEADLINE_EXCEEDED"
    server.reload(model_config(_m(bases), _n(bases)))  # the official server would block here too
    assert server.predict("n", x=[1.0]).model_spec.version.value == 1


def test_a_changed_policy_is_answered_at_once(server: Served, bases: Path) -> None:  # L-12
    server.reload(model_config(_m(bases, specific=[1])))
    server.until("m", v2="END")
    assert _answered(server) == 1


def test_with_one_poll_only_a_new_model_hangs_and_a_removed_one_goes(bases: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c", _m(bases))  # L-13, L-14
    with Served(replace(FAST, model_config_file=config, file_system_poll_wait_seconds=0)) as server:
        code, _ = failure(lambda: server.reload(model_config(_m(bases), _n(bases)), timeout=0.5))
        assert code == "DEADLINE_EXCEEDED"
        server.reload(model_config(_n(bases)), timeout=5)
        wait_for(lambda: set(server.states("m").values()) == {"END"}, lambda: str(server.states("m")))


def test_a_reload_says_by_how_much_metrics_grew(server: Served, bases: Path) -> None:  # L-16
    request = model_management_pb2.ReloadConfigRequest(metric_names=["/tensorflow/serving/request_count"])
    request.config.CopyFrom(model_config(_m(bases)))
    _answered(server)
    (metric,) = server.model.HandleReloadConfigRequest(request).metric
    assert (metric.name, metric.int64_value_increase) == ("/tensorflow/serving/request_count", 0)


def test_a_reload_looks_at_the_file_system_at_once(bases: Path, tmp_path: Path, shelf: Shelf) -> None:
    base = tmp_path / "m"
    shelf.publish(base, 1)
    config = write_config(tmp_path / "c", {"name": "m", "base_path": base})
    with Served(replace(FAST, model_config_file=config, file_system_poll_wait_seconds=3600)) as server:
        shelf.publish(base, 2)
        server.reload(model_config({"name": "m", "base_path": base, "specific": [1, 2]}))
        wait_for(lambda: server.states("m") == {2: "AVAILABLE", 1: "AVAILABLE"}, lambda: str(server.states("m")))


class TestLabels:
    """Labels."""

    def test_a_label_is_usable_at_once(self, server: Served, bases: Path) -> None:  # B-01
        server.reload(model_config(_m(bases, labels={"live": 1, "canary": 2})))
        assert (_answered(server, label="live"), _answered(server, label="canary"), _answered(server)) == (1, 2, 2)

    def test_a_label_for_what_is_not_there_is_refused(self, server: Served, bases: Path) -> None:  # B-02, L-15
        server.reload(model_config(_m(bases, labels={"live": 1})))
        assert failure(lambda: server.reload(model_config(_m(bases, labels={"live": 9})))) == (
            "FAILED_PRECONDITION",
            "Request to assign label to version 9 of model m, which is not currently available for inference",
        )
        assert _answered(server, label="live") == 1

    def test_labels_in_the_first_configuration_fail_the_start(self, bases: Path, tmp_path: Path) -> None:  # B-03
        config = write_config(tmp_path / "c", _m(bases, labels={"live": 1}))
        with pytest.raises(ServingError) as caught, Served(replace(FAST, model_config_file=config)):
            raise AssertionError("it started")
        assert "which is not currently available for inference" in caught.value.message

    def test_a_flag_allows_new_labels_before_their_version(self, bases: Path, tmp_path: Path) -> None:  # B-04, B-05
        config = write_config(tmp_path / "c", _m(bases, labels={"live": 1}))
        flags = replace(FAST, model_config_file=config, allow_version_labels_for_unavailable_models=True)
        with Served(flags) as server:
            server.until("m", v1="AVAILABLE", v2="AVAILABLE")
            server.reload(model_config(_m(bases, labels={"live": 1, "next": 3})))
            assert failure(lambda: _answered(server, label="next")) == (
                "NOT_FOUND",
                "Servable not found for request: Specific(m, 3)",
            )
            code, _ = failure(lambda: server.reload(model_config(_m(bases, labels={"live": 3}))))
            assert code == "FAILED_PRECONDITION"

    def test_a_label_outlives_its_version(self, server: Served, bases: Path) -> None:  # B-06
        server.reload(model_config(_m(bases, labels={"live": 1})))
        server.reload(model_config(_m(bases, specific=[2], labels={"live": 1})))
        server.until("m", v1="END")
        assert failure(lambda: _answered(server, label="live")) == (
            "NOT_FOUND",
            "Servable not found for request: Specific(m, 1)",
        )

    def test_a_safe_move_never_fails(self, server: Served, bases: Path) -> None:  # B-07
        server.reload(model_config(_m(bases, labels={"live": 1})))
        seen: list[int] = []
        moved: list[bool] = []
        with ThreadPoolExecutor(1) as pool:

            def client() -> None:
                while not moved or seen[-1] != 2:
                    seen.append(_answered(server, label="live"))

            done = pool.submit(client)
            wait_for(lambda: bool(seen), lambda: "no answer")
            server.reload(model_config(_m(bases, labels={"live": 2})))
            moved.append(True)
            done.result()
        server.reload(model_config(_m(bases, specific=[2], labels={"live": 2})))
        server.until("m", v1="END")
        assert seen == sorted(seen)
        assert _answered(server, label="live") == 2

    def test_of_version_and_label_the_last_counts(self, server: Served, bases: Path) -> None:  # B-08
        server.reload(model_config(_m(bases, labels={"live": 1})))
        assert _answered(server, version=2, label="live") == 1


def test_a_config_file_is_read_again(bases: Path, tmp_path: Path) -> None:
    path = tmp_path / "c"
    flags = replace(FAST, model_config_file=write_config(path, _m(bases)), model_config_file_poll_wait_seconds=1)
    with Served(flags) as server:
        write_config(path, _m(bases), _n(bases))
        wait_for(lambda: server.states("n") == {1: "AVAILABLE"}, lambda: str(server.states("n")))
        assert isinstance(server.channel, grpc.Channel)
