"""A store of folders that other machines see too: a share or an object store, through fsspec.

A folder is there when its manifest is: the manifest is written last and removed first, so whoever is killed in between leaves nothing that
anybody takes for whole. What is read back is compared with its manifest file by file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import msgspec
from msgspec import Struct

from feedback.errors import CorruptError, UnavailableError
from feedback.versions import MANIFEST, FileEntry
from trainer.durable import appearing, verify
from trainer.settings import StoreSettings


class _Files(Struct, frozen=True):
    """What every manifest says, whatever else it says."""

    files: dict[str, FileEntry]


class Depot:
    """One place in a store, with folders by name. Every call raises UnavailableError where the store does not answer."""

    def __init__(self, uri: str, storage: Mapping[str, Any]) -> None:
        self._uri = uri.rstrip("/")
        try:
            self._store, root = fsspec.core.url_to_fs(self._uri, **storage)
        except (OSError, ValueError, ImportError) as error:
            raise UnavailableError(f"store {uri}: {error}") from error
        self._root = str(root)

    def uri(self, name: str) -> str:
        """Where a folder is, for whoever reads it."""
        return f"{self._uri}/{name}"

    def names(self) -> list[str]:
        """Names of the folders that are whole, sorted."""
        with self._asked():
            self._store.invalidate_cache()
            return sorted(PurePosixPath(path).parent.name for path in self._store.glob(f"{self._root}/*/{MANIFEST}"))

    def begun(self) -> list[str]:
        """Names of all folders, those that somebody writes or has left half included."""
        with self._asked():
            self._store.invalidate_cache()
            return sorted(PurePosixPath(path).name for path in self._store.glob(f"{self._root}/*"))

    def push(self, folder: Path) -> None:
        """Store a whole folder under its own name, its manifest last."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        with self._asked():
            for path in sorted(files, key=lambda path: path.name == MANIFEST and path.parent == folder):
                target = self._at(folder.name, path.relative_to(folder).as_posix())
                self._store.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
                self._store.put_file(str(path), target)

    def manifest(self, name: str) -> bytes:
        """Read a folder's manifest. Raises CorruptError where there is none."""
        with self._asked():
            try:
                found: bytes = self._store.cat_file(self._at(name, MANIFEST))
            except FileNotFoundError as error:
                raise CorruptError(f"{self.uri(name)} has no {MANIFEST}") from error
        return found

    def pull(self, name: str, place: Path) -> None:
        """Bring a folder to `place`, where it appears whole and verified.

        Raises:
            CorruptError: it is not there, half, or not what its manifest says.
        """
        manifest = self.manifest(name)
        try:
            files = msgspec.json.decode(manifest, type=_Files).files
        except msgspec.DecodeError as error:
            raise CorruptError(f"{self.uri(name)}/{MANIFEST}: {error}") from error
        with appearing(place) as folder:
            for each in files:
                self._get(name, each, folder)
            (folder / MANIFEST).write_bytes(manifest)
            verify(folder, files, but=MANIFEST)

    def remove(self, name: str) -> None:
        """Remove a folder, its manifest first; one that is not there is no error."""
        with self._asked():
            for path in (self._at(name, MANIFEST), self._at(name, "")):
                try:
                    self._store.rm(path, recursive=True)
                except FileNotFoundError:
                    continue

    def sweep(self) -> None:
        """Remove what killed processes have left half. Of the one trainer alone: it would take away what another is writing."""
        for name in set(self.begun()) - set(self.names()):
            self.remove(name)

    def _get(self, name: str, file: str, folder: Path) -> None:
        relative = PurePosixPath(file)
        if relative.is_absolute() or ".." in relative.parts:
            raise CorruptError(f"{self.uri(name)}/{MANIFEST} lists {file!r}: only paths inside the folder are allowed")
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._asked():
            try:
                self._store.get_file(self._at(name, file), str(target))
            except FileNotFoundError as error:
                raise CorruptError(f"{self.uri(name)}/{file} is missing, the manifest lists it") from error

    def _at(self, name: str, file: str) -> str:
        return f"{self._root}/{name}/{file}".rstrip("/")

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(f"store {self._uri}: {error}") from error


def checkpoints_of(settings: StoreSettings, line: str) -> Depot | None:
    """Where a line's checkpoints are stored; None: in the data folder only."""
    return Depot(f"{settings.uri.rstrip('/')}/checkpoints/{line}", settings.storage) if settings.uri else None


def versions_of(settings: StoreSettings, model: str) -> Depot | None:
    """Where a model's versions are stored; None: in the data folder only."""
    return Depot(f"{settings.uri.rstrip('/')}/models/{model}", settings.storage) if settings.uri else None
