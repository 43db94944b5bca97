"""What is released in the background takes no more than its share of the processor, but for a base that is needed at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feedback.errors import UnavailableError
from tests.trainer.loop.running import World, turn_until
from tests.trainer.loop.world import slates
from trainer.checkpoint import Checkpoints
from trainer.fake import FakeLearner
from trainer.groups import VersionSettings
from trainer.release import Releases
from trainer.settings import TrainerSettings
from trainer.versions import VersionStore


@contextmanager
def releases(folder: Path, *, share: float) -> Iterator[Releases]:
    found = Releases(
        line="l",
        settings=TrainerSettings(versions=VersionSettings(share=share)),
        features=[],
        checkpoints=Checkpoints(folder / "checkpoints"),
        store=VersionStore(folder / "versions"),
    )
    try:
        yield found
    finally:
        found.close()


def busy(seconds: float) -> None:
    """Take so much of a processor's time, however long that lasts."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_what_took_long_is_followed_by_a_rest(tmp_path: Path) -> None:
    with releases(tmp_path, share=0.001) as found:
        assert not found.resting
        found.submit(lambda: busy(0.1)).result()
        assert found.resting


def test_a_short_job_behind_a_long_one_does_not_end_its_rest(tmp_path: Path) -> None:
    with releases(tmp_path, share=0.001) as found:
        found.submit(lambda: busy(0.1)).result()
        found.submit(lambda: None).result()
        assert found.resting


def test_what_failed_has_taken_its_time_too(tmp_path: Path) -> None:
    def failing() -> None:
        busy(0.1)
        raise UnavailableError("disk full")

    with releases(tmp_path, share=0.001) as found:
        assert isinstance(found.submit(failing).exception(), UnavailableError)
        assert found.resting


def test_waiting_for_a_disk_takes_nothing_of_the_share(tmp_path: Path) -> None:
    with releases(tmp_path, share=1.0) as found:
        found.submit(lambda: time.sleep(0.05)).result()
        assert not found.resting


class Crowded(FakeLearner):
    """What it learns has soon no room in what was exported."""

    room = 64


def test_a_base_that_is_full_is_followed_by_the_next_one_at_once(world: World) -> None:
    trainer = world.trainer(make=Crowded, versions={"share": 0.001})
    world.join.write(list(slates(300)))

    def made() -> list[int]:
        return [manifest.capacities["weights"] for manifest in trainer.store.manifests()]

    turn_until(trainer, lambda: made()[-1] >= 256)
    assert made() == sorted(set(made())), "each has more room than the one before"
