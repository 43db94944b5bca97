"""A version from the store to the model server's folder: whole and verified, or not at all.

A model server takes any numeric directory for a version the moment it sees it, complete or not. So a version is written
under another name, compared with its manifest file by file, and renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import msgspec
from fsspec.implementations.local import LocalFileSystem

from feedback.errors import CorruptError, UnavailableError
from feedback.versions import MANIFEST, FileEntry, Manifest

_CHUNK = 1 << 20


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a version that lies on this disk.

    Raises:
        CorruptError: there is none, or it is not as the contract says.
    """
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise CorruptError(f"{path}: {error}") from error


def on_disk(folder: Path) -> dict[int, Manifest]:
    """The versions in a server's folder that are whole by their manifest's word, by number."""
    found = {}
    for child in folder.iterdir() if folder.is_dir() else ():
        if child.name.isdecimal() and (child / MANIFEST).is_file():
            try:
                found[int(child.name)] = read_manifest(child)
            except CorruptError:
                continue
    return found


def fetch(uri: str, folder: Path, *, model: str, version: int, storage: Mapping[str, Any]) -> Manifest:
    """Copy a version into `folder`/`version`; a version that is there already is left as it is.

    Raises:
        UnavailableError: the store does not answer, or the version is not there (yet).
        CorruptError: what is there is half, or not what its manifest says. Nothing was left behind.
    """
    target = folder / str(version)
    if target.exists():
        return read_manifest(target)
    folder.mkdir(parents=True, exist_ok=True)
    store, root = _open(uri, storage)
    manifest = _manifest(store, root, model=model, version=version)
    part = folder / f".part-{version}-{uuid.uuid4().hex[:8]}"
    try:
        for name, entry in manifest.files.items():
            _copy(store, root, name, part, entry)
        (part / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        _sync(part / MANIFEST)
        part.rename(target)
        _sync(folder)
    except OSError as error:
        raise UnavailableError(f"version {version} from {uri}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def sweep(folder: Path) -> None:
    """Remove what downloads that were killed have left."""
    for child in folder.glob(".part-*") if folder.is_dir() else ():
        shutil.rmtree(child, ignore_errors=True)


def remove(folder: Path, version: int) -> None:
    """Delete a version from the server's folder: renamed first, so that no server sees it half gone."""
    path, gone = folder / str(version), folder / f".part-{version}-gone"
    if path.exists():
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _open(uri: str, storage: Mapping[str, Any]) -> tuple[Any, str]:
    try:
        store, root = fsspec.core.url_to_fs(uri, **storage)
    except (OSError, ValueError, ImportError) as error:
        raise UnavailableError(f"store of {uri}: {error}") from error
    return store, str(root)


def _manifest(store: Any, root: str, *, model: str, version: int) -> Manifest:
    path = str(PurePosixPath(root) / MANIFEST)
    try:
        manifest = msgspec.json.decode(store.cat_file(path), type=Manifest)
    except OSError as error:
        raise UnavailableError(f"{path}: {error}") from error
    except msgspec.DecodeError as error:
        raise CorruptError(f"{path}: {error}") from error
    if (manifest.model, manifest.version) != (model, version):
        raise CorruptError(f"{path} says {manifest.model}/{manifest.version}, {model}/{version} was announced")
    if not any(PurePosixPath(name).name in ("saved_model.pb", "saved_model.pbtxt") for name in manifest.files):
        raise CorruptError(f"{path} lists no saved_model.pb")
    return manifest


def _copy(store: Any, root: str, name: str, part: Path, entry: FileEntry) -> None:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise CorruptError(f"{MANIFEST} lists {name!r}: only paths inside the version are allowed")
    source, target = str(PurePosixPath(root) / relative), part / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not _linked(store, source, target):
            store.get_file(source, str(target))
    except FileNotFoundError as error:
        raise CorruptError(f"{source} is missing, the manifest lists it") from error
    _compare(target, name, entry)
    _sync(target)


def _linked(store: Any, source: str, target: Path) -> bool:
    """Hard-link where store and server share a filesystem: no byte is copied. Published files are never written again."""
    if not isinstance(store, LocalFileSystem):
        return False
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _compare(path: Path, name: str, entry: FileEntry) -> None:
    size = path.stat().st_size
    if size != entry.size:
        raise CorruptError(f"{name} has {size} bytes, the manifest says {entry.size}")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != entry.sha256:
        raise CorruptError(f"{name} has SHA-256 {digest.hexdigest()}, the manifest says {entry.sha256}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
