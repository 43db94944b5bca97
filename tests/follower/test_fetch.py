"""A version is on the server's disk whole and verified, or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import fsspec
import msgspec
import pytest

from feedback.errors import CorruptError, UnavailableError
from feedback.versions import MANIFEST, FileEntry, Manifest
from serving.follower.fetch import fetch, on_disk, remove, sweep

FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"i",
    "variables/variables.data-00000-of-00001": b"d" * 99,
}


def manifest(files: dict[str, bytes], **fields: Any) -> Manifest:
    entries = {n: FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest()) for n, data in files.items()}
    base = Manifest(
        model="m", line="m-a", version=7, epoch=1, sequence=1, step=1, created=1, offsets={}, watermark=1, metrics={},
        digest="", features=[], files=entries, code_version="t",
    )  # fmt: skip
    return msgspec.structs.replace(base, **fields)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / "7"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest(FILES)))
    return folder


def take(store: Path | str, target: Path) -> Manifest:
    return fetch(str(store), target, model="m", version=7, storage={})


def test_a_local_version_is_linked_not_copied(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "serving"
    assert take(store, target).version == 7
    assert (target / "7" / "saved_model.pb").stat().st_ino == (store / "saved_model.pb").stat().st_ino
    assert set(on_disk(target)) == {7}
    assert take(store, target).version == 7, "a second time changes nothing"


def test_a_version_comes_out_of_an_object_store(store: Path, tmp_path: Path) -> None:
    fsspec.filesystem("memory").put(str(store), "/bucket/7", recursive=True)
    take("memory://bucket/7", tmp_path / "serving")
    assert (tmp_path / "serving" / "7" / "variables" / "variables.index").read_bytes() == b"i"


def damage(store: Path, what: str) -> None:
    shard = store / "variables" / "variables.data-00000-of-00001"
    match what:
        case "missing":
            shard.unlink()
        case "short":
            shard.write_bytes(b"d" * 98)
        case "changed":
            shard.write_bytes(b"d" * 98 + b"e")
        case "another version":
            (store / MANIFEST).write_bytes(msgspec.json.encode(manifest(FILES, version=8)))
        case "outside":
            (store / MANIFEST).write_bytes(msgspec.json.encode(manifest({**FILES, "../x": b""})))
        case "no graph":
            (store / MANIFEST).write_bytes(msgspec.json.encode(manifest({"variables/variables.index": b"i"})))
        case "torn manifest":
            (store / MANIFEST).write_bytes(b'{"model":"m"')


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", "is missing"), ("short", "98 bytes"), ("changed", "SHA-256"), ("another version", "m/8"),
        ("outside", "only paths inside"), ("no graph", "no saved_model.pb"), ("torn manifest", "manifest.json"),
    ],
)  # fmt: skip
def test_a_half_or_changed_version_is_refused_and_leaves_nothing(
    store: Path, tmp_path: Path, what: str, said: str
) -> None:
    damage(store, what)
    target = tmp_path / "serving"
    with pytest.raises(CorruptError, match=said):
        take(store, target)
    assert list(target.iterdir()) == []


def test_a_version_that_is_not_there_yet_may_come(store: Path, tmp_path: Path) -> None:
    (store / MANIFEST).unlink()
    with pytest.raises(UnavailableError):
        take(store, tmp_path / "serving")


def test_what_a_killed_download_left_is_swept_and_a_version_can_be_removed(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "serving"
    take(store, target)
    (target / ".part-9-abc").mkdir()
    sweep(target)
    remove(target, 7)
    assert list(target.iterdir()) == []
    assert (store / "saved_model.pb").read_bytes() == b"graph", "the store keeps its own"
