"""Versions appear whole, their numbers rise, and none is removed that somebody uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.errors import CorruptError
from feedback.features import FeatureSpec
from feedback.versions import MANIFEST, Canary, Control, Manifest, Replica
from tests.trainer.loop.world import FEATURES
from trainer.batch import Batch
from trainer.durable import verify
from trainer.fake import FakeLearner, FakeSnapshot
from trainer.settings import ModelSettings
from trainer.versions import VersionStore, removable

NOW = 1_000_000_000_000


def manifest(version: int) -> Manifest:
    return Manifest(
        model="news",
        line="l",
        version=version,
        epoch=1,
        sequence=3,
        step=3,
        created=0,
        offsets={},
        watermark=0,
        metrics={},
        digest="d",
        features=[],
        files={},
        code_version="0",
    )


def snapshot() -> FakeSnapshot:
    return FakeLearner(FeatureSpec(features=FEATURES), ModelSettings(), line="l").snapshot()


def test_a_version_stands_there_with_every_file_in_its_manifest(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    number = store.next()
    written = store.export(snapshot(), manifest(number), None)
    assert store.manifest(number) == written
    assert set(written.files) == {"saved_model.pb"}
    verify(store.path(number), written.files, but=MANIFEST)


def test_an_export_that_fails_leaves_nothing_and_its_number_is_not_used_again(tmp_path: Path) -> None:
    class Empty:
        step = sequence = epoch = 0

        def export(self, folder: Path, warmup: Batch | None = None) -> None:
            """Write nothing."""

        def save(self, folder: Path) -> None:
            """Write nothing."""

        def digest(self) -> str:
            return ""

        def capacities(self) -> dict[str, int]:
            return {}

    store = VersionStore(tmp_path)
    with pytest.raises(CorruptError, match=r"saved_model\.pb"):
        store.export(Empty(), manifest(store.next()), None)
    assert not list(tmp_path.iterdir())
    assert store.next() == 2


def test_numbers_rise_above_what_was_ever_heard_of(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    assert VersionStore(tmp_path).next() == 8
    assert VersionStore(tmp_path, used=12).next() == 13


def test_a_version_without_a_readable_manifest_is_no_version(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    assert VersionStore(tmp_path).manifests() == []


def replica(*, live: int, loaded: dict[int, int], time: int = NOW) -> Replica:
    return Replica(model="news", replica="a", time=time, live=live, loaded=loaded)


def test_a_replica_that_is_silent_for_long_holds_nothing() -> None:
    def gone(time: int) -> list[int]:
        return removable(
            range(1, 10),
            keep=1,
            good=[9],
            control=Control(model="news"),
            replicas=[replica(live=2, loaded={2: 5, 3: 5}, time=time)],
            now=NOW,
            replica_s=60.0,
        )

    assert gone(NOW - 59_000_000) == [1, 4, 5, 6, 7, 8]
    assert gone(NOW - 61_000_000) == [1, 2, 3, 4, 5, 6, 7, 8]


@given(
    numbers=st.sets(st.integers(1, 30), min_size=1),
    keep=st.integers(1, 5),
    good=st.sets(st.integers(1, 30)),
    live=st.integers(0, 30),
    pinned=st.integers(0, 30),
    canary=st.integers(1, 30),
    loaded=st.sets(st.integers(1, 30)),
)
def test_no_version_is_removed_that_is_live_pinned_a_canary_loaded_or_the_newest_good_one(
    numbers: set[int], keep: int, good: set[int], live: int, pinned: int, canary: int, loaded: set[int]
) -> None:
    control = Control(model="news", version=pinned, pinned=True, canary=Canary(version=canary, share=0.1, started=0))
    gone = removable(
        numbers,
        keep=keep,
        good=good,
        control=control,
        replicas=[replica(live=live, loaded=dict.fromkeys(loaded, 1))],
        now=NOW,
        replica_s=60.0,
    )
    held = {live, pinned, canary} | loaded | set(sorted(numbers)[-keep:]) | set(sorted(numbers & good)[-1:])
    assert set(gone) == numbers - held
