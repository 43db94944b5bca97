"""A store that other machines see: whole or not at all, whoever is killed when; and a trainer that goes on from it elsewhere."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import pytest

from feedback.errors import CorruptError, UnavailableError
from feedback.versions import MANIFEST
from serving.follower.fetch import fetch
from tests.trainer.loop.running import World, caught_up, turn_until
from tests.trainer.loop.test_versions import manifest, snapshot
from tests.trainer.loop.world import slates
from trainer.checkpoint import Checkpoints, Mark
from trainer.depot import Depot
from trainer.durable import verify
from trainer.train import Trainer
from trainer.versions import VersionStore

UPLOAD = """
import sys, time
from pathlib import Path

from fsspec import register_implementation
from fsspec.implementations.local import LocalFileSystem


class Slow(LocalFileSystem):
    protocol = "slow"

    def put_file(self, source, target, **options):
        if source.endswith(sys.argv[3]):
            print("here", flush=True)
            time.sleep(600)
        super().put_file(source, target, **options)


register_implementation("slow", Slow)
from trainer.depot import Depot

Depot(f"slow://{sys.argv[1]}", {}).push(Path(sys.argv[2]))
"""


@pytest.fixture(params=["file", "memory"])
def depot(request: pytest.FixtureRequest, tmp_path: Path) -> Depot:
    """A share, and an object store."""
    where = tmp_path / "share" if request.param == "file" else f"/{uuid.uuid4().hex}/bucket"
    return Depot(f"{request.param}://{where}", {})


def version(folder: Path, number: int = 1) -> Path:
    """A whole version in a folder."""
    VersionStore(folder).export(snapshot(), manifest(number), None)
    return folder / str(number)


def test_what_is_stored_comes_back_whole_and_is_gone_when_it_is_removed(depot: Depot, tmp_path: Path) -> None:
    assert depot.names() == depot.begun() == []
    place = version(tmp_path / "here")
    depot.push(place)
    assert depot.names() == depot.begun() == ["1"]
    depot.pull("1", tmp_path / "there" / "1")
    files = {path.name: path.read_bytes() for path in place.iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "there" / "1").iterdir()} == files
    depot.remove("1")
    depot.remove("1")
    assert depot.names() == depot.begun() == []
    with pytest.raises(CorruptError, match=f"has no {MANIFEST}"):
        depot.pull("1", tmp_path / "elsewhere" / "1")


@pytest.mark.parametrize("at", ["saved_model.pb", MANIFEST])
def test_who_is_killed_while_it_stores_leaves_nothing_that_is_taken_for_whole(at: str, tmp_path: Path) -> None:
    place, share = version(tmp_path / "here"), tmp_path / "share"
    command = [sys.executable, "-c", UPLOAD, str(share), str(place), at]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    depot = Depot(f"file://{share}", {})
    assert (depot.names(), depot.begun()) == ([], ["1"])
    # The next trainer finds nothing there, takes a number that was never begun, and clears up.
    store = VersionStore(tmp_path / "new", depot=depot)
    assert (store.numbers(), store.next()) == ([], 2)
    store.share()
    assert depot.begun() == []
    # On its own machine the version is whole: there it is stored the second time.
    again = VersionStore(tmp_path / "here", depot=depot)
    again.share()
    assert depot.names() == ["1"]
    assert [path.name for path in place.iterdir()] == [MANIFEST]
    depot.pull("1", tmp_path / "there" / "1")
    verify(tmp_path / "there" / "1", again.manifest(1).files, but=MANIFEST)


@pytest.mark.parametrize(("damage", "said"), [("missing", "is missing"), ("short", "bytes, the manifest says")])
def test_what_is_damaged_there_is_refused_and_leaves_nothing_here(tmp_path: Path, damage: str, said: str) -> None:
    depot = Depot(f"file://{tmp_path / 'share'}", {})
    depot.push(version(tmp_path / "here"))
    graph = tmp_path / "share" / "1" / "saved_model.pb"
    graph.unlink() if damage == "missing" else graph.write_bytes(b"")
    with pytest.raises(CorruptError, match=said):
        depot.pull("1", tmp_path / "there" / "1")
    assert list((tmp_path / "there").iterdir()) == []


def test_a_store_that_cannot_be_had_is_named() -> None:
    with pytest.raises(UnavailableError, match="store nothing://bucket"):
        Depot("nothing://bucket", {})


def elsewhere(world: World, folder: Path, **store: str) -> Trainer:
    """A trainer on another machine: nothing of the first one's data folder is there."""
    world.data = folder
    return world.trainer(store=store)


def test_on_another_machine_the_trainer_goes_on_from_the_store_as_if_nothing_had_been(
    world: World, tmp_path: Path
) -> None:
    uri = f"memory:///{uuid.uuid4().hex}"
    world.join.write(list(slates(80)))
    first = world.trainer(store={"uri": uri})
    turn_until(first, caught_up(first))
    made = first.release_version(probation=False)
    first.deltas.flush()
    world.join.write(list(slates(40, first=80)))
    turn_until(first, caught_up(first))
    first.deltas.flush()
    line, state = first.line, first.loop.learner.snapshot().digest()
    sequence, published = first.loop.learner.sequence, len(world.published(line))
    assert sequence > made.sequence
    world.forget(first)

    second = elsewhere(world, tmp_path / "another", uri=uri)
    learner = second.loop.learner
    assert (learner.epoch, learner.sequence, learner.snapshot().digest()) == (made.epoch, sequence, state)
    assert len(world.published(line)) == published
    assert second.store.manifest(made.version) == made
    # What it announces is what a follower that shares nothing with it can load.
    told = {event.version: event.uri for event in second.steering.events if event.event == "exported"}
    assert told[made.version] == f"{uri}/models/news/{made.version}"
    found = fetch(told[made.version], tmp_path / "serving", model="news", version=made.version, storage={})
    assert found == made
    world.join.write(list(slates(20, first=120)))
    turn_until(second, caught_up(second))
    assert second.release_version(probation=False).version > made.version


def test_old_versions_and_checkpoints_leave_the_store_as_well(world: World) -> None:
    uri = f"memory:///{uuid.uuid4().hex}"
    world.join.write(list(slates(60)))
    trainer = world.trainer(store={"uri": uri}, checkpoints={"every_s": 1000.0, "keep": 1}, versions={"keep": 1})
    turn_until(trainer, caught_up(trainer))
    for _ in range(3):
        world.join.write(list(slates(20, first=trainer.loop.examples)))
        turn_until(trainer, caught_up(trainer))
        newest = trainer.release_version(probation=False)
    good = {newest.version}
    gone = trainer.releases.retire(good=good, control=trainer.steering.control, replicas=[], now=0)
    assert gone and newest.version not in gone
    assert Depot(f"{uri}/models/news", {}).begun() == [str(newest.version)]
    trainer.save()
    trainer.releases.wait()
    trainer.releases.check()
    stored = Depot(f"{uri}/checkpoints/{trainer.line}", {}).begun()
    assert newest.checkpoint in stored and len(stored) <= 2


def test_while_the_store_is_away_learning_goes_on_and_what_was_not_stored_is_later(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    share = tmp_path / "share"
    world.join.write(list(slates(60)))
    trainer = world.trainer(store={"uri": f"file://{share}"}, versions={"every_s": 0.01}, checkpoints={"every_s": 0.01})
    turn_until(trainer, caught_up(trainer))
    trainer.releases.wait()
    shutil.move(share, tmp_path / "away")
    share.write_text("not a folder")
    before = trainer.loop.learner.sequence
    world.join.write(list(slates(60, first=60)))
    turn_until(trainer, lambda: caught_up(trainer)() and trainer.loop.learner.sequence > before)
    turn_until(trainer, lambda: "version_not_stored" in capfd.readouterr().err)
    share.unlink()
    shutil.move(tmp_path / "away", share)
    depot = Depot(f"file://{share}/models/news", {})
    stored = depot.names()
    world.join.write(list(slates(60, first=120)))
    turn_until(trainer, lambda: depot.names() != stored)
    turn_until(trainer, lambda: any(mark.sequence > before for mark in marks(trainer, share)))


def marks(trainer: Trainer, share: Path) -> list[Mark]:
    """Where the stored checkpoints stand."""
    folder = share / "checkpoints" / trainer.line
    return [Checkpoints(folder).mark(name) for name in Checkpoints(folder).names()]


def test_a_data_folder_from_before_there_was_a_store_is_brought_there(world: World) -> None:
    world.join.write(list(slates(60)))
    first = world.trainer()
    turn_until(first, caught_up(first))
    made = first.release_version(probation=False)
    line = first.line
    first.deltas.flush()
    world.forget(first)
    uri = f"memory:///{uuid.uuid4().hex}"
    second = world.trainer(store={"uri": uri})
    assert str(made.version) in Depot(f"{uri}/models/news", {}).names()
    assert made.checkpoint in Depot(f"{uri}/checkpoints/{line}", {}).names()
    assert second.store.uri(made.version) == f"{uri}/models/news/{made.version}"
    assert fsspec.core.url_to_fs(uri)[0].exists(f"{uri}/models/news/{made.version}/saved_model.pb")
