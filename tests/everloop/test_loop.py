"""Which parts are started, where they are told the others are, and what is left to those who run a server already."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from everloop.config.load import load
from everloop.folders import Folders
from everloop.loop import Loop, Named, assemble
from everloop.run import PARTS
from everloop.runtime.parts import Part, waves
from everloop.runtime.ports import free_port
from everloop.session import Session
from feedback.errors import UsageError


def assembled(data: Path, named: Named | None = None, **environ: str) -> Loop:
    return assemble(Session(Folders(data), load(None, environ=environ)), named or Named())


def part(loop: Loop, name: str) -> Part:
    return next(each for each in loop.parts if each.name == name)


def test_every_part_starts_after_the_servers_it_needs(tmp_path: Path) -> None:
    names = assembled(tmp_path).names()
    assert names[:4] == ("kafka", "redis", "topics", "model-server")


def test_kafka_and_the_model_server_outlive_what_needs_them(tmp_path: Path) -> None:
    order = [name for wave in waves(assembled(tmp_path).parts) for name in wave]
    assert order.index("gateway") < order.index("follower") < order.index("model-server")
    assert order.index("follower") < order.index("topics") < order.index("kafka")


def test_servers_that_are_named_are_not_started_and_everybody_is_told(tmp_path: Path) -> None:
    loop = assembled(tmp_path, Named(kafka="there:1", redis="redis://there:2/0", tf_serving="there:3"))
    assert not {"kafka", "redis", "model-server"} & set(loop.names())
    told = part(loop, "follower").env
    assert told["EVERLOOP_KAFKA__BOOTSTRAP"] == "there:1"
    assert told["EVERLOOP_REDIS__URL"] == "redis://there:2/0"
    assert told["EVERLOOP_ADDRESSES__MODEL_SERVER"] == "there:3"


def test_a_configured_server_counts_as_named(tmp_path: Path) -> None:
    loop = assembled(tmp_path, EVERLOOP_KAFKA__BOOTSTRAP="there:1", EVERLOOP_REDIS__URL="redis://there:2/0")
    assert not {"kafka", "redis"} & set(loop.names())


def test_what_each_part_is_told_is_a_configuration_that_is_allowed(tmp_path: Path) -> None:
    for each in assembled(tmp_path).parts:
        load(None, environ=each.env)


def test_ports_are_free_ones_unless_named(tmp_path: Path) -> None:
    first, second = assembled(tmp_path), assembled(tmp_path)
    for name in ("kafka", "redis", "model-server", "follower", "gateway"):
        assert part(first, name).ports != part(second, name).ports
    port = free_port()
    named = assembled(tmp_path, EVERLOOP_RUNTIME__KAFKA__PORT=str(port), EVERLOOP_ADDRESSES__FOLLOWER_PORT=str(port))
    assert part(named, "kafka").ports == {"kafka": port}
    assert part(named, "follower").ports == {"http": port}


def test_parts_that_are_left_out_are_not_waited_for(tmp_path: Path) -> None:
    loop = assembled(tmp_path, Named(only=("redis", "topics")))
    assert loop.names() == ("redis", "topics")
    assert part(loop, "topics").after == ()
    with pytest.raises(UsageError, match="--only trainr: one of kafka"):
        assembled(tmp_path, Named(only=("trainr",)))


def test_every_part_of_ours_that_up_starts_can_be_run(tmp_path: Path) -> None:
    for each in assembled(tmp_path).parts:
        command = each.argv if not callable(each.argv) else []
        if "everloop.run" in command:
            assert command[-1] in PARTS


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import everloop.run",
        "import everloop.cli; everloop.cli.application()",
        "import everloop.loop",
        "import serving.follower.main",
        "import serving.gateway.main",
    ],
)
def test_what_is_not_the_trainer_or_the_model_server_imports_no_tensorflow_and_no_faust(statement: str) -> None:
    assert not {"tensorflow", "tensorflow_serving", "faust", "keras"} & modules_after(statement)
