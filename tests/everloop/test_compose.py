"""docker-compose.yml and the Dockerfile name only what the code knows."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from everloop.config.addresses import AddressSettings
from everloop.config.compose import Config
from everloop.config.load import load
from everloop.loop import SERVING_FLAGS
from everloop.run import PARTS
from everloop.runtime import jars
from everloop.runtime.kafka import KafkaNode
from serving.model_server.flags import parse

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
KEYS = '[{name = "shop", sha256 = "' + "0" * 64 + '"}]'
"""What a person puts into the one variable that compose asks for."""


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {
        name: re.sub(r"^\$\{EVERLOOP_GATEWAY__KEYS:\?[^}]*\}$", KEYS, str(value))
        for name, value in service.get("environment", {}).items()
    }


def configured(service: str) -> Config:
    return load(None, environ=environment(SERVICES[service])).config


@pytest.mark.parametrize("name", OURS)
def test_each_of_our_services_runs_a_part_in_an_image_that_has_it(name: str) -> None:
    [part] = OURS[name]["command"]
    assert part == name
    assert part in PARTS
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert OURS[name]["build"]["args"]["PART"] in extras


@pytest.mark.parametrize("name", OURS)
def test_each_variable_is_a_setting_with_a_value_that_is_allowed(name: str) -> None:
    assert all(variable.startswith("EVERLOOP_") for variable in environment(OURS[name]))
    configured(name)


@pytest.mark.parametrize("name", OURS)
def test_each_part_finds_the_others_at_a_service_and_a_port_that_it_listens_on(name: str) -> None:
    config = configured(name)
    listeners = SERVICES["kafka"]["environment"]["KAFKA_LISTENERS"]
    assert config.kafka.bootstrap == "kafka:9092"
    assert "PLAINTEXT://:9092" in listeners
    assert config.redis.url == "redis://redis:6379/0"
    assert config.addresses.model_server == "tf-serving:8500"
    assert "--port=8500" in SERVICES["tf-serving"]["command"]


def test_the_published_ports_are_those_that_the_parts_listen_on() -> None:
    assert SERVICES["gateway"]["ports"] == [
        f"127.0.0.1:{AddressSettings().gateway_port}:{AddressSettings().gateway_port}"
    ]
    assert SERVICES["kafka"]["ports"] == ["127.0.0.1:29092:29092"]
    assert "HOST://:29092" in SERVICES["kafka"]["environment"]["KAFKA_LISTENERS"]
    assert SERVICES["tf-serving"]["ports"] == ["127.0.0.1:8501:8501"]
    assert "--rest_api_port=8501" in SERVICES["tf-serving"]["command"]


def test_kafka_is_the_locked_release_and_set_up_as_the_local_node_is(tmp_path: Path) -> None:
    [locked] = {jar.version for jar in jars.locked() if jar.artifact == "kafka-clients"}
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{locked}"
    ours = KafkaNode(tmp_path).properties()
    theirs = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment(SERVICES["kafka"]).items()
    }
    assert set(theirs) <= set(ours)
    same = ("auto.create.topics.enable", "log.message.timestamp.type", "transaction.state.log.min.isr", "process.roles")
    assert {name: str(theirs[name]) for name in same} == {name: str(ours[name]) for name in same}


def test_tensorflow_serving_gets_flags_that_it_has_and_those_that_up_gives() -> None:
    command = SERVICES["tf-serving"]["command"]
    flags, unknown = parse(command)
    assert unknown == []
    assert {f"--{name}={value}" for name, value in SERVING_FLAGS.items()} <= set(command)
    [config] = SERVICES["tf-serving"]["configs"]
    assert flags.model_config_file == config["target"]
    assert config["source"] in COMPOSE["configs"]


def test_the_follower_and_the_model_server_see_one_folder() -> None:
    follower = configured("follower").follower
    assert f"serving:{follower.folder}" in SERVICES["follower"]["volumes"]
    assert f"serving:{follower.server_folder}" in SERVICES["tf-serving"]["volumes"]
    assert f"serving:{follower.folder}" in SERVICES["topics"]["volumes"]


def test_every_volume_and_every_dependency_is_declared() -> None:
    for service in SERVICES.values():
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(COMPOSE["volumes"])
        assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_the_image_carries_all_our_packages_and_nothing_that_is_not_there() -> None:
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    packages = sorted(path.parent.name for path in ROOT.glob("*/py.typed"))
    assert sorted(copied) == packages


def _compose_client() -> bool:
    try:
        return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


if _compose_client():

    def test_docker_compose_accepts_the_file() -> None:
        environ = {**os.environ, "EVERLOOP_GATEWAY__KEYS": KEYS}
        done = subprocess.run(
            ["docker", "compose", "config", "--quiet"],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
