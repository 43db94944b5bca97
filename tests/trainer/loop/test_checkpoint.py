"""A checkpoint is whole or it is refused, with a reason, and the one before it is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from feedback.errors import CorruptError
from feedback.features import FeatureSpec
from tests.trainer.loop.world import FEATURES
from trainer.checkpoint import LEARNER, MANIFEST, Checkpoints, Mark, pack
from trainer.fake import FakeLearner
from trainer.settings import ModelSettings


def mark(sequence: int, *, epoch: int = 1) -> Mark:
    return Mark(
        line="l",
        epoch=epoch,
        sequence=sequence,
        step=sequence,
        offsets={0: sequence, 3: 7},
        created=sequence,
        chain="c",
    )


def written(folder: Path, *sequences: int) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    learner = FakeLearner(FeatureSpec(features=FEATURES), ModelSettings(), line="l")
    for sequence in sequences:
        checkpoints.write(mark(sequence), learner=learner.snapshot().save, loop=pack({"n": sequence}))
    return checkpoints


def newest(checkpoints: Checkpoints) -> tuple[int, list[str]]:
    """Sequence of the checkpoint taken, and why others were refused."""
    reasons: list[str] = []
    loaded = checkpoints.newest(lambda name, error: reasons.append(str(error)))
    return (loaded.mark.sequence if loaded else -1), reasons


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    loaded = written(tmp_path, 1, 2).newest(lambda name, error: None)
    assert loaded is not None
    assert loaded.mark == mark(2)
    assert loaded.loop == {"n": 2}
    assert FakeLearner.load(loaded.learner).line == "l"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("a bit of the weights turned", lambda f: flip(f / LEARNER / "state.json"), "SHA-256"),
    ("the loop's state cut short", lambda f: shorten(f / "loop.msgpack"), "bytes, the manifest says"),
    ("a file gone", lambda f: (f / LEARNER / "state.json").unlink(), "is missing"),
    ("a file too many", lambda f: (f / LEARNER / "more").write_text("x"), "not in the manifest"),
    ("no manifest", lambda f: (f / MANIFEST).unlink(), "manifest can't be read"),
    ("half a manifest", lambda f: shorten(f / MANIFEST), "manifest can't be read"),
    ("an empty manifest", lambda f: (f / MANIFEST).write_bytes(b""), "manifest can't be read"),
    (
        "another format",
        lambda f: (f / MANIFEST).write_bytes((f / MANIFEST).read_bytes().replace(b'"format":1', b'"format":9')),
        "format 9",
    ),
]


@pytest.mark.parametrize(("damage", "reason"), [(d, r) for _, d, r in DAMAGES], ids=[name for name, _, _ in DAMAGES])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_taken(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    checkpoints = written(tmp_path, 1, 2)
    damage(tmp_path / checkpoints.names()[-1])
    sequence, reasons = newest(checkpoints)
    assert sequence == 1
    assert len(reasons) == 1
    assert reason in reasons[0]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, 1)

    def fails(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").write_text("x")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        checkpoints.write(mark(2), learner=fails, loop=b"")
    assert [path.name for path in tmp_path.iterdir()] == checkpoints.names()


def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".tmp-abc" / "learner").mkdir(parents=True)
    assert newest(Checkpoints(tmp_path)) == (-1, [])
    assert not list(tmp_path.iterdir())


def test_a_higher_epoch_is_newer_than_a_higher_sequence(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, 9)
    learner = FakeLearner(FeatureSpec(features=FEATURES), ModelSettings(), line="l")
    checkpoints.write(mark(4, epoch=2), learner=learner.snapshot().save, loop=pack({}))
    loaded = checkpoints.newest(lambda name, error: None)
    assert loaded is not None
    assert (loaded.mark.epoch, loaded.mark.sequence) == (2, 4)


def test_old_ones_are_retired_but_not_those_that_a_version_needs(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, 1, 2, 3, 4, 5)
    names = checkpoints.names()
    assert checkpoints.retire(keep=2, needed={names[1]}) == [names[0], names[2]]
    assert checkpoints.names() == [names[1], names[3], names[4]]


def test_the_newest_without_a_suspect_step_comes_first(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, 1, 5, 9)
    assert [checkpoints.mark(name).step for name in checkpoints.before(5)] == [5, 1]


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="manifest can't be read"):
        Checkpoints(tmp_path).load("e1")
