"""Folders that appear whole or not at all: written beside their place, checked, synced to disk, renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feedback.errors import CorruptError
from feedback.versions import FileEntry

_TEMPORARY = ".tmp-"


@contextmanager
def appearing(place: Path) -> Iterator[Path]:
    """Yield a new folder beside `place`, which takes its place, durably, when the block ends without an error."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            _sync(path)
        _sync(temporary)
        temporary.rename(place)
        _sync(place.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sweep(parent: Path) -> None:
    """Remove what a killed process left half written."""
    for path in parent.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def remove(place: Path) -> None:
    """Remove a folder so that nobody finds half of it: renamed first."""
    temporary = place.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
    place.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def entries(folder: Path, *, but: str) -> dict[str, FileEntry]:
    """Size and SHA-256 of every file in a folder, by its path in it, except the one named."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != but:
            found[name] = FileEntry(size=path.stat().st_size, sha256=_sha256(path))
    return found


def verify(folder: Path, files: dict[str, FileEntry], *, but: str) -> None:
    """Check that a folder holds exactly these files.

    Raises:
        CorruptError: a file is missing, one too many, shorter, longer, or has other bytes.
    """
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {but}
    if there != set(files):
        odd = sorted(there ^ set(files))[0]
        raise CorruptError(f"{folder}: file {odd} is {'missing' if odd in files else 'not in the manifest'}")
    for name, entry in files.items():
        size = (folder / name).stat().st_size
        if size != entry.size:
            raise CorruptError(f"{folder}: file {name} has {size} bytes, the manifest says {entry.size}")
        if _sha256(folder / name) != entry.sha256:
            raise CorruptError(f"{folder}: file {name} does not match its SHA-256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
