"""The write-ahead log's frames and files. A position is a byte's place in the whole log; a file is named by its first position.

A frame is its length and CRC-32, then partition, topic, length of the key, key and value. A frame that was cut off, or
whose bytes are not those written, ends what can be read of its file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

_FRAME: Final = struct.Struct("<II")
_HEAD: Final = struct.Struct("<HBH")
MAX_FRAME: Final = 16_777_216


class Record(NamedTuple):
    """One record on its way to Kafka."""

    end: int
    """Position after it."""
    topic: int
    """Index of its topic."""
    partition: int
    """Its partition."""
    key: bytes
    """Its key; empty: none."""
    value: bytes
    """Its value."""


def frame(topic: int, partition: int, key: bytes, value: bytes) -> bytes:
    """The bytes of one frame."""
    body = _HEAD.pack(partition, topic, len(key)) + key + value
    return _FRAME.pack(len(body), crc32(body)) + body


def frames(data: bytes, base: int) -> Iterator[Record]:
    """The whole frames at the start of `data`, whose first byte is at position `base`; stops at the first that is not one."""
    at, size = 0, len(data)
    while at + _FRAME.size <= size:
        length, checksum = _FRAME.unpack_from(data, at)
        begin = at + _FRAME.size
        at = begin + length
        if not _HEAD.size <= length <= MAX_FRAME or at > size or crc32(memoryview(data)[begin:at]) != checksum:
            return
        partition, topic, key_length = _HEAD.unpack_from(data, begin)
        middle = begin + _HEAD.size + key_length
        yield Record(base + at, topic, partition, data[begin + _HEAD.size : middle], data[middle:at])


def next_frame(data: bytes) -> int:
    """Length of the frame that `data` begins with, header included; 0 where there is no room for a header."""
    return _FRAME.size + int(_FRAME.unpack_from(data)[0]) if len(data) >= _FRAME.size else 0


def segment_path(folder: Path, base: int) -> Path:
    """The file whose first byte is at `base`."""
    return folder / f"{base:020d}.log"


def segment_bases(folder: Path) -> list[int]:
    """First positions of the files there are, in order."""
    return sorted(int(path.stem) for path in folder.glob("*.log"))


def valid_length(path: Path) -> int:
    """How many bytes from its start a file's whole frames take."""
    end = 0
    for record in frames(path.read_bytes(), 0):
        end = record.end
    return end
