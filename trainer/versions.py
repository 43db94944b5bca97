"""The model directory: numbers that only rise, versions that appear whole, and the rule that removes old ones."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from feedback.clock import to_us
from feedback.errors import CorruptError, UnavailableError
from feedback.versions import MANIFEST, Control, Manifest, Replica
from trainer.batch import Batch
from trainer.contract import Frozen
from trainer.depot import Depot
from trainer.durable import appearing, entries, remove, sweep


class VersionStore:
    """The versions of one model, `FOLDER/<number>`. With a depot they are there, and here are their manifests only."""

    def __init__(self, folder: Path, *, used: int = 0, depot: Depot | None = None) -> None:
        self._folder, self._depot = folder, depot
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        begun = self._mirror(depot) if depot is not None else []
        self._highest = max([used, *self.numbers(), *begun])

    def _mirror(self, depot: Depot) -> list[int]:
        """Take over the manifests of what the depot has; answers every number that was ever begun there."""
        for name in depot.names():
            if name.isdigit() and not self.path(int(name)).is_dir():
                with appearing(self.path(int(name))) as folder:
                    (folder / MANIFEST).write_bytes(depot.manifest(name))
        return [int(name) for name in depot.begun() if name.isdigit()]

    def share(self) -> None:
        """Store what is whole here and not in the depot: a kill came between, or there was no depot before. What is gone from there
        goes here too. Of the one trainer alone; raises UnavailableError.
        """
        if self._depot is None:
            return
        self._depot.sweep()
        stored = set(self._depot.names())
        for number in self.numbers():
            if str(number) not in stored:
                if (self.path(number) / "saved_model.pb").is_file():
                    self._hand_over(self._depot, self.path(number))
                else:
                    remove(self.path(number))

    def next(self) -> int:
        """Reserve the next number; none is used twice, even if its export fails."""
        self._highest += 1
        return self._highest

    def numbers(self) -> list[int]:
        """Numbers of the versions that are there, rising."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def path(self, number: int) -> Path:
        """The folder of a version."""
        return self._folder / str(number)

    def uri(self, number: int) -> str:
        """Where followers find a version."""
        return self._depot.uri(str(number)) if self._depot is not None else str(self.path(number).absolute())

    def manifest(self, number: int) -> Manifest:
        """Read a version's manifest.

        Raises:
            CorruptError: there is none, or it can't be read.
        """
        try:
            return msgspec.json.decode((self.path(number) / MANIFEST).read_bytes(), type=Manifest)
        except (OSError, msgspec.ValidationError, msgspec.DecodeError) as error:
            raise CorruptError(f"version {number}: its manifest can't be read: {error}") from error

    def manifests(self) -> list[Manifest]:
        """Manifests of all versions that can be read, rising."""
        found = []
        for number in self.numbers():
            try:
                found.append(self.manifest(number))
            except CorruptError:
                continue
        return found

    def export(self, snapshot: Frozen, manifest: Manifest, warmup: Batch | None) -> Manifest:
        """Write a version; `manifest` says everything but its files. It appears by a rename, checked and durable.

        Raises:
            UnavailableError: the depot does not take it; there is no such version then.
        """
        with appearing(self.path(manifest.version)) as folder:
            snapshot.export(folder, warmup)
            if not (folder / "saved_model.pb").is_file():
                raise CorruptError(f"version {manifest.version}: the export wrote no saved_model.pb")
            whole = msgspec.structs.replace(manifest, files=entries(folder, but=MANIFEST))
            (folder / MANIFEST).write_bytes(msgspec.json.encode(whole))
        if self._depot is not None:
            try:
                self._hand_over(self._depot, self.path(manifest.version))
            except UnavailableError:
                remove(self.path(manifest.version))
                raise
        return whole

    def _hand_over(self, depot: Depot, place: Path) -> None:
        """Store a version, and keep only its manifest here."""
        depot.push(place)
        for path in place.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != MANIFEST:
                path.unlink()

    def remove(self, number: int) -> None:
        """Remove a version. Raises UnavailableError where the depot does not; it is tried again with the next."""
        if self._depot is not None:
            self._depot.remove(str(number))
        remove(self.path(number))


def removable(
    numbers: Collection[int],
    *,
    keep: int,
    good: Collection[int],
    control: Control,
    replicas: Iterable[Replica],
    now: int,
    replica_s: float,
) -> list[int]:
    """Say which versions may go: not the newest `keep`, nor the newest good one, nor one that is live, pinned, a canary or loaded.

    `good`: those that passed the gate. `now` in µs. A replica that was silent for `replica_s` holds nothing.
    """
    held = set(sorted(numbers)[-keep:]) | set(sorted(set(good) & set(numbers))[-1:]) | {control.version}
    if control.canary is not None:
        held.add(control.canary.version)
    for replica in replicas:
        if now - replica.time <= to_us(replica_s):
            held |= {replica.live, *replica.loaded}
    return sorted(set(numbers) - held)


def code_version() -> str:
    """Version of everloop that runs."""
    try:
        return version("everloop")
    except PackageNotFoundError:
        return "0+unknown"
