"""Checkpoints: all that a killed trainer needs to go on, taken right behind a delta, written atomically.

In the folder: `learner/` (weights, optimizer state, slots), `loop.msgpack` (open first scores, metrics, baseline, gate) and
`manifest.json` with offsets, sequence and the checksums of everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from feedback.errors import CorruptError
from feedback.versions import FileEntry
from trainer.depot import Depot
from trainer.durable import appearing, entries, remove, sweep, verify

MANIFEST: Final = "manifest.json"
LEARNER: Final = "learner"
_LOOP = "loop.msgpack"
_VERSION = 1


class Mark(Struct, frozen=True, kw_only=True):
    """Where a checkpoint stands."""

    line: str
    epoch: int
    sequence: int
    step: int
    offsets: dict[int, int]
    """Next offset of each partition of samples."""
    created: int
    """Wall clock, µs."""
    chain: str
    """Digest of all deltas up to `sequence`."""
    control_time: int = 0
    """`time` of the last control record that was carried out."""
    log_offset: int = 0
    """Offset in the deltas topic at which reading on may begin: nothing after `sequence` stands before it."""
    format: int = _VERSION

    @property
    def name(self) -> str:
        """The checkpoint's name: later ones of a line sort behind earlier ones."""
        return f"e{self.epoch:06d}-s{self.sequence:012d}-{self.created:016d}"


class _Manifest(Struct, frozen=True, kw_only=True):
    mark: Mark
    files: dict[str, FileEntry]


class Loaded(Struct, frozen=True, kw_only=True):
    """A checkpoint that was read and found whole."""

    mark: Mark
    learner: Path
    """Folder for `Learner.load`."""
    loop: dict[str, Any]
    """The loop's own state."""


class Checkpoints:
    """The checkpoints of one model line, in one folder; with a depot, those that stand there as well."""

    def __init__(self, folder: Path, *, depot: Depot | None = None) -> None:
        self._folder, self._depot = folder, depot
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)

    def write(self, mark: Mark, *, learner: Callable[[Path], None], loop: bytes) -> str:
        """Write one; answers its name. `loop` is what `pack` made."""
        with appearing(self._folder / mark.name) as folder:
            learner(folder / LEARNER)
            (folder / _LOOP).write_bytes(loop)
            manifest = _Manifest(mark=mark, files=entries(folder, but=MANIFEST))
            (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        return mark.name

    def names(self) -> list[str]:
        """Names of all that are there, whole or not, oldest first."""
        return sorted({*self._local(), *self.stored()})

    def stored(self) -> list[str]:
        """Names of those that a trainer on another machine finds, oldest first; without a depot there is no other machine."""
        return self._local() if self._depot is None else self._depot.names()

    def store(self, names: Collection[str]) -> None:
        """Put those that are only here where a trainer on another machine finds them. Raises UnavailableError."""
        if self._depot is not None:
            for name in sorted(set(names) & set(self._local()) - set(self._depot.names())):
                self._depot.push(self._folder / name)

    def share(self) -> None:
        """Store what is only here, and remove what was left half there. Of the one trainer alone; raises UnavailableError."""
        if self._depot is not None:
            self._depot.sweep()
            self.store(self._local())

    def load(self, name: str) -> Loaded:
        """Read one.

        Raises:
            CorruptError: it is not there, not whole, or of another format.
        """
        folder = self._folder / name
        if self._depot is not None and not folder.is_dir():
            self._depot.pull(name, folder)
        mark = self.mark(name, verified=True)
        try:
            loop = msgspec.msgpack.decode((folder / _LOOP).read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise CorruptError(f"checkpoint {name}: {error}") from error
        return Loaded(mark=mark, learner=folder / LEARNER, loop=loop)

    def mark(self, name: str, *, verified: bool = False) -> Mark:
        """Read where one stands. Raises CorruptError as `load` does."""
        folder = self._folder / name
        try:
            far = self._depot is not None and not folder.is_dir()
            text = self._depot.manifest(name) if self._depot and far else (folder / MANIFEST).read_bytes()
            manifest = msgspec.json.decode(text, type=_Manifest)
        except (OSError, msgspec.DecodeError) as error:
            raise CorruptError(f"checkpoint {name}: its manifest can't be read: {error}") from error
        if manifest.mark.format != _VERSION:
            raise CorruptError(f"checkpoint {name}: format {manifest.mark.format}, this code reads {_VERSION}")
        if verified:
            verify(folder, manifest.files, but=MANIFEST)
        return manifest.mark

    def newest(self, refused: Callable[[str, CorruptError], None]) -> Loaded | None:
        """Read the newest that is whole; each newer one that is not is told to `refused`."""
        for name in reversed(self.names()):
            try:
                return self.load(name)
            except CorruptError as error:
                refused(name, error)
        return None

    def before(self, step: int) -> list[str]:
        """Names of those that hold no step after `step`, newest first."""
        found = []
        for name in reversed(self.names()):
            try:
                if self.mark(name).step <= step:
                    found.append(name)
            except CorruptError:
                continue
        return found

    def retire(self, *, keep: int, needed: Collection[str]) -> list[str]:
        """Remove all but the newest `keep` and those that are needed; answers the removed ones' names."""
        names = self.names()
        old = [name for name in names[: max(0, len(names) - keep)] if name not in needed]
        for name in old:
            if (self._folder / name).is_dir():
                remove(self._folder / name)
            if self._depot is not None:
                self._depot.remove(name)
        return old

    def _local(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if path.is_dir() and path.name.startswith("e"))


pack = msgspec.msgpack.encode
"""Make the bytes of a loop's state."""
