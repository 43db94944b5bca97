"""The write-ahead log between an answer and Kafka.

A record is in the operating system's page cache before the answer goes out, so that a killed gateway loses nothing; how
much a machine without power may lose is `fsync`'s to say. What Kafka has confirmed is remembered by position, a moment
later: after a crash a few records are sent again, and the join ignores them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final
from zlib import crc32

from feedback.errors import BufferFullError, EventError, UsageError
from serving.gateway.segments import (
    Record,
    frame,
    frames,
    next_frame,
    segment_bases,
    segment_path,
    valid_length,
)

MAX_RECORD: Final = 900_000
"""Bytes of a record at most: the broker's default bound is 1 MiB a batch."""

_MARK: Final = struct.Struct("<QI")
_LOG: Final = logging.getLogger("everloop.gateway.spool")


class Spool:
    """An append-only log of files in `folder`, read from the acknowledged position on. One process at a time."""

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int) -> None:
        self._folder, self._max, self._segment = folder, max_bytes, segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        self._mark = os.open(folder / "acknowledged", os.O_RDWR | os.O_CREAT, 0o640)
        self._bases = segment_bases(folder) or [0]
        base = self._bases[-1]
        self.end = base + _truncated(segment_path(folder, base))
        self.acknowledged = self._read_mark()
        self._file = self._open(base)
        self._old: tuple[int, int] | None = None
        self.synced = self.end
        self.full = False
        """Whether the last append found no room."""
        self.on_append: Callable[[], object] = _nothing
        self._drop_acknowledged()

    @property
    def waiting(self) -> int:
        """Bytes that Kafka has not confirmed."""
        return self.end - self.acknowledged

    def append(self, topic: int, partition: int, key: bytes, value: bytes) -> int:
        """Append one record; answer the position after it.

        Raises:
            BufferFullError: the log has no room until Kafka has taken some of it.
            EventError: the record is larger than Kafka takes.
        """
        if len(key) + len(value) > MAX_RECORD:
            allowed = f"at most {MAX_RECORD} bytes"
            raise EventError("too_large", field="event", value=len(key) + len(value), allowed=allowed)
        data = frame(topic, partition, key, value)
        self.full = self.waiting + len(data) > self._max
        if self.full:
            raise BufferFullError(f"spool: {self.waiting} bytes wait for Kafka: at most {self._max} may")
        if self.end - self._bases[-1] >= self._segment:
            self._roll()
        self._write(data)
        self.on_append()
        return self.end

    def read(self, position: int, limit: int) -> tuple[list[Record], int]:
        """Up to about `limit` bytes of records from `position` on, and the position after them.

        At least one record is answered where there is one. Bytes that are no frame are skipped to the next file, which
        loses what they held; it is logged, and happens only where a disk has altered a file.
        """
        while position < self.end:
            index = max(i for i, base in enumerate(self._bases) if base <= position)
            last = index + 1 == len(self._bases)
            stop = self.end if last else self._bases[index + 1]
            data = self._pread(index, position, min(limit, stop - position))
            if len(data) < next_frame(data) <= stop - position:
                data = self._pread(index, position, next_frame(data))
            found = list(frames(data, position))
            if found:
                return found, found[-1].end
            _LOG.error("spool: position %d holds no record: skipped to %d", position, stop)
            position = stop
        return [], position

    def acknowledge(self, position: int) -> None:
        """Remember that Kafka has everything before `position`; delete the files that hold nothing else."""
        self.acknowledged = position
        self.full = False
        os.pwrite(self._mark, _MARK.pack(position, crc32(position.to_bytes(8, "little"))), 0)
        self._drop_acknowledged()

    def sync(self) -> None:
        """Have the disk take what is appended. Blocks; called in a thread."""
        end, file = self.end, os.dup(self._file)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)
        self.synced = max(self.synced, end)

    def close(self) -> None:
        """Sync and close the files; another process may open the folder then."""
        self.sync()
        for descriptor in (self._file, self._mark, self._lock, *([self._old[1]] if self._old else [])):
            os.close(descriptor)

    def _write(self, data: bytes) -> None:
        written = os.write(self._file, data)
        if written != len(data):
            # A full disk: take the torn frame away, so that the next one is not read as its rest.
            os.ftruncate(self._file, self.end - self._bases[-1])
            raise BufferFullError(f"spool: the disk took {written} of {len(data)} bytes")
        self.end += written

    def _roll(self) -> None:
        os.fdatasync(self._file)
        os.close(self._file)
        self._bases.append(self.end)
        self._file = self._open(self.end)

    def _open(self, base: int) -> int:
        return os.open(segment_path(self._folder, base), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)

    def _pread(self, index: int, position: int, size: int) -> bytes:
        base = self._bases[index]
        if index + 1 == len(self._bases):
            return os.pread(self._file, size, position - base)
        if self._old is None or self._old[0] != base:
            if self._old:
                os.close(self._old[1])
            self._old = (base, os.open(segment_path(self._folder, base), os.O_RDONLY))
        return os.pread(self._old[1], size, position - base)

    def _drop_acknowledged(self) -> None:
        while len(self._bases) > 1 and self._bases[1] <= self.acknowledged:
            base = self._bases.pop(0)
            if self._old and self._old[0] == base:
                os.close(self._old[1])
                self._old = None
            segment_path(self._folder, base).unlink(missing_ok=True)

    def _read_mark(self) -> int:
        data = os.pread(self._mark, _MARK.size, 0)
        if len(data) == _MARK.size:
            position, checksum = _MARK.unpack(data)
            if crc32(position.to_bytes(8, "little")) == checksum and position <= self.end:
                return max(int(position), self._bases[0])
        return self._bases[0]


def _lock(folder: Path) -> int:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise UsageError(f"spool {folder}: another gateway uses it: give each its own data folder") from error
    return lock


def _truncated(path: Path) -> int:
    if not path.exists():
        return 0
    length, size = valid_length(path), path.stat().st_size
    if length < size:
        _LOG.warning("spool: %s: %d bytes after the last whole record are cut off", path.name, size - length)
        os.truncate(path, length)
    return length


def _nothing() -> None:
    """Nobody waits."""
