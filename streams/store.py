"""Where a partition's slates are: all in memory, or the older ones on disk too.

Kafka is the truth; the disk is a cache that may be lost, and serves two ends. Slates beyond the bound leave memory; and what has
been written need not be read again from the inputs after a kill. So the newest slates are in memory only (`young`), the others on
disk, of which some are in memory besides. The disk is written after a commit and never before, in one batch with the offsets that
it is good for: it may be behind Kafka, never ahead, and what it is behind is read again (an outcome applied twice is known by its id).

Keys on disk: `s` + request id: the slate. `d` + due time + offset: its request id. `h`: the header.
"""

from __future__ import annotations

import heapq
import shutil
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from streams.log import logger
from streams.marks import Mark
from streams.slates import SETTLED, Slate

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Slate)
_DUE: Final = struct.Struct(">cQQ")
_SPAN: Final = 2_000
"""Slates written in one round at least, so that writing keeps up without holding a round up."""


class Header(Struct, frozen=True, kw_only=True):
    """What the disk is good for."""

    lineage: str
    """Of the state that it belongs to."""
    predictions: Mark
    """No slate that was kept and is not on disk lies before."""
    outcomes: Mark
    """What lies on disk knows all outcomes before, and of the others none is lost by reading from here."""
    at: tuple[int, int]
    """Next offsets of both topics when it was written."""
    count: int
    """Slates on disk."""
    open: int
    """Impressions of those that have not settled."""


class Slates(dict[str, Slate]):
    """The slates in memory, by request id, oldest first. This one has no disk."""

    @property
    def held(self) -> int:
        """Slates kept, wherever they are."""
        return len(self)

    def add(self, slate: Slate) -> None:
        """Keep a new slate."""
        self[slate.request_id] = slate

    def remove(self, slate: Slate) -> None:
        """Forget a slate."""
        del self[slate.request_id]

    def touch(self, slate: Slate) -> None:
        """Say that a slate has changed."""

    def fetch(self, keys: Iterable[bytes | None]) -> list[Slate]:
        """Bring slates of those request ids into memory; answers those brought."""
        return []

    def due(self, now: int) -> list[Slate]:
        """Bring slates that are due before `now` into memory; answers those brought."""
        return []

    def oldest(self, count: int) -> list[Slate]:
        """Bring the oldest slates into memory and answer them, oldest first."""
        return list(islice(self.values(), count))

    def open_impressions(self) -> int:
        """Impressions of the slates that have not settled."""
        return sum(slate.size for slate in self.values() if slate.stage < SETTLED)

    def everything(self) -> Iterator[Slate]:
        """All slates, wherever they are; for inspection."""
        yield from self.values()

    def first_young(self) -> int | None:
        """Offset of the oldest slate that is not on disk; None: all are."""
        return None

    def spill(self) -> None:
        """Choose what leaves the young: it is written with the next flush."""

    def flush(self, header: Header) -> bool:
        """Write what has changed, with what it is good for; answers whether slates have left memory."""
        return False

    def close(self) -> None:
        """Let go of files."""


class DiskSlates(Slates):
    """Slates with a disk behind them."""

    def __init__(self, folder: Path, *, in_memory: int, unwritten: int) -> None:
        super().__init__()
        self._folder, self._in_memory, self._unwritten = folder, in_memory, unwritten
        self._young: dict[str, Slate] = {}
        self._dirty: dict[str, Slate] = {}
        self._gone: list[tuple[str, int, int]] = []
        self._due_from = 0
        self._count = self._open = 0
        self._cold = self._cold_open = 0
        self._db: Any = _open(folder)

    def header(self) -> Header | None:
        """What the disk is good for; None: nothing was written, or it is not readable."""
        raw = self._db.get(b"h")
        try:
            return msgspec.msgpack.decode(raw, type=Header) if raw is not None else None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def adopt(self, header: Header) -> None:
        """Go on with what lies on disk."""
        self._count = self._cold = header.count
        self._open = self._cold_open = header.open

    def wipe(self) -> None:
        """Begin with an empty disk."""
        self._db.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._db = _open(self._folder)

    @property
    def held(self) -> int:
        """Slates kept, wherever they are."""
        return len(self) + self._cold

    def add(self, slate: Slate) -> None:
        """Keep a new slate."""
        self[slate.request_id] = self._young[slate.request_id] = slate

    def remove(self, slate: Slate) -> None:
        """Forget a slate."""
        name = slate.request_id
        del self[name]
        if self._young.pop(name, None) is None:
            self._dirty.pop(name, None)
            self._gone.append((name, slate.disk_due, slate.offset))
            self._count -= 1
            self._open -= slate.disk_open

    def touch(self, slate: Slate) -> None:
        """Say that a slate has changed."""
        if slate.disk_due >= 0:
            self._dirty[slate.request_id] = slate

    def fetch(self, keys: Iterable[bytes | None]) -> list[Slate]:
        """Bring slates of those request ids into memory; answers those brought."""
        if not self._cold:
            return []
        wanted = [b"s" + key for key in dict.fromkeys(keys) if key and _text(key) not in self]
        return self._bring(value for value in (self._db[wanted] if wanted else ()) if value is not None)

    def due(self, now: int) -> list[Slate]:
        """Bring slates that are due before `now` into memory; answers those brought."""
        if not self._cold or now <= 0:
            return []
        names, cursor = [], self._db.iter()
        cursor.seek(_DUE.pack(b"d", self._due_from, 0))
        end = _DUE.pack(b"d", now, 0)
        while cursor.valid() and cursor.key() < end:
            names.append(cursor.value())
            cursor.next()
        # What is due here fires, changes and is written under a later time: nothing earlier comes.
        self._due_from = now
        return self.fetch(names)

    def oldest(self, count: int) -> list[Slate]:
        """Bring the oldest slates into memory and answer them, oldest first. Looks at every slate's key."""
        if self._cold:
            names, cursor = list[tuple[int, bytes]](), self._db.iter()
            cursor.seek(b"d")
            while cursor.valid() and cursor.key()[:1] == b"d":
                names.append((_DUE.unpack(cursor.key())[2], cursor.value()))
                cursor.next()
            self.fetch(name for _, name in heapq.nsmallest(count, names))
        return heapq.nsmallest(count, self.values(), key=lambda slate: slate.offset)

    def open_impressions(self) -> int:
        """Impressions of the slates that have not settled."""
        return super().open_impressions() + self._cold_open

    def first_young(self) -> int | None:
        """Offset of the oldest slate that is not on disk; None: all are."""
        for slate in self._young.values():
            return slate.offset
        return None

    def everything(self) -> Iterator[Slate]:
        """All slates, wherever they are; for inspection."""
        yield from self.values()
        cursor = self._db.iter()
        cursor.seek(b"s")
        while cursor.valid() and cursor.key()[:1] == b"s":
            if _text(cursor.key()[1:]) not in self:
                yield _DECODER.decode(cursor.value())
            cursor.next()

    def spill(self) -> None:
        """Choose what leaves the young: it is written with the next flush."""
        more = len(self._young) - self._unwritten
        if more > 0:
            for name in list(islice(self._young, max(more, _SPAN))):
                self._dirty[name] = self._young.pop(name)

    def flush(self, header: Header) -> bool:
        """Write what has changed, with what it is good for; answers whether slates have left memory."""
        from rocksdict import WriteBatch

        batch = WriteBatch(raw_mode=True)
        for name, due, offset in self._gone:
            batch.delete(b"s" + name.encode())
            batch.delete(_DUE.pack(b"d", due, offset))
        for slate in self._dirty.values():
            self._put(batch, slate)
        self._gone.clear()
        self._dirty.clear()
        filled = msgspec.structs.replace(header, count=self._count, open=self._open)
        batch.put(b"h", _ENCODER.encode(filled))
        self._db.write(batch)
        return self._leave()

    def close(self) -> None:
        """Let go of files."""
        self._db.close()

    def _put(self, batch: Any, slate: Slate) -> None:
        key = slate.request_id.encode()
        if slate.disk_due < 0:
            self._count += 1
        if slate.disk_due != slate.due:
            if slate.disk_due >= 0:
                batch.delete(_DUE.pack(b"d", slate.disk_due, slate.offset))
            batch.put(_DUE.pack(b"d", slate.due, slate.offset), key)
        now_open = slate.size if slate.stage < SETTLED else 0
        self._open += now_open - slate.disk_open
        slate.disk_due, slate.disk_open = slate.due, now_open
        batch.put(b"s" + key, _ENCODER.encode(slate))

    def _leave(self) -> bool:
        """Let the oldest slates that are on disk leave memory, if it holds too many."""
        if len(self) <= self._in_memory:
            return False
        most = len(self) - self._in_memory + self._in_memory // 10
        leaving = [slate for slate in islice(self.values(), most + len(self._young)) if slate.disk_due >= 0][:most]
        for slate in leaving:
            del self[slate.request_id]
            self._cold += 1
            self._cold_open += slate.disk_open
        return bool(leaving)

    def _bring(self, values: Iterable[bytes]) -> list[Slate]:
        brought = [_DECODER.decode(value) for value in values]
        for slate in brought:
            self[slate.request_id] = slate
            self._cold -= 1
            self._cold_open -= slate.disk_open
        return brought


def _text(key: bytes) -> str:
    return key.decode("utf-8", "replace")


def _open(folder: Path) -> Any:
    from rocksdict import BlockBasedOptions, DBCompressionType, Options, Rdict

    options = Options(raw_mode=True)
    options.set_write_buffer_size(8 * 2**20)
    options.set_max_background_jobs(2)
    options.set_compression_type(DBCompressionType.lz4())
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(10, False)
    options.set_block_based_table_factory(blocks)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Rdict(str(folder), options=options)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a cache, an empty one is right
        logger.warning("the store cannot be opened, it is begun anew: %s", error, extra={"folder": str(folder)})
        shutil.rmtree(folder, ignore_errors=True)
        return Rdict(str(folder), options=options)
