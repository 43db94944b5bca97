"""A part's log file: JSON lines, whatever the part prints."""

from __future__ import annotations

import json
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

_RECENT = 40


class Journal:
    """Copies a process's output to a file, line by line; what is not a JSON object is wrapped in one."""

    def __init__(self, path: Path, *, part: str, limit_bytes: int) -> None:
        self._path, self._part, self._limit = path, part, limit_bytes
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def follow(self, output: IO[bytes]) -> threading.Thread:
        """Copy everything from `output` until its end, on a thread of its own."""
        thread = threading.Thread(target=self._copy, args=(output,), name=f"journal-{self._part}", daemon=True)
        thread.start()
        return thread

    def write(self, line: str, *, level: str = "info") -> None:
        """Append one line."""
        with self._lock:
            self._recent.append(line)
            self._file.write(as_json(line, part=self._part, level=level).encode() + b"\n")
            self._file.flush()
            if self._file.tell() > self._limit:
                self._rotate()

    def recent(self) -> list[str]:
        """Return the last lines, as the part printed them."""
        with self._lock:
            return list(self._recent)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _copy(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                if text := line.decode(errors="replace").rstrip():
                    self.write(text)

    def _rotate(self) -> None:
        self._file.close()
        self._path.replace(self._path.with_suffix(".log.1"))
        self._file = self._path.open("ab")


def as_json(line: str, *, part: str, level: str = "info") -> str:
    """Return the line itself if it is a JSON object, else one that carries it as its message."""
    if line.startswith("{") and line.endswith("}"):
        try:
            json.loads(line)
        except json.JSONDecodeError:
            pass
        else:
            return line
    now = datetime.now(UTC).isoformat()
    return json.dumps({"time": now, "level": level, "part": part, "message": line}, ensure_ascii=False)


def message(line: str) -> str:
    """Return what a log line says: the message of a JSON line, else the line."""
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return line
    if not isinstance(found, dict):
        return line
    return str(found.get("message") or found.get("event") or line)
