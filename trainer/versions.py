"""The model directory: numbers that only rise, versions that appear whole, and the rule that removes old ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from feedback.clock import to_us
from feedback.errors import CorruptError
from feedback.versions import MANIFEST, Control, Manifest, Replica
from trainer.batch import Batch
from trainer.contract import Frozen
from trainer.durable import appearing, entries, remove, sweep


class VersionStore:
    """The versions of one model, `FOLDER/<number>`."""

    def __init__(self, folder: Path, *, used: int = 0) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        self._highest = max([used, *self.numbers()])

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
        """Write a version; `manifest` says everything but its files. It appears by a rename, checked and durable."""
        with appearing(self.path(manifest.version)) as folder:
            snapshot.export(folder, warmup)
            if not (folder / "saved_model.pb").is_file():
                raise CorruptError(f"version {manifest.version}: the export wrote no saved_model.pb")
            whole = msgspec.structs.replace(manifest, files=entries(folder, but=MANIFEST))
            (folder / MANIFEST).write_bytes(msgspec.json.encode(whole))
        return whole

    def remove(self, number: int) -> None:
        """Remove a version."""
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
