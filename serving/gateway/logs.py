"""JSON lines on stderr, one per log record."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object: at, level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Sparing(logging.Filter):
    """Lets a message's template through `limit` times a second and logger: a part that is away must not fill the disk."""

    def __init__(self, limit: int = 5) -> None:
        super().__init__()
        self._limit, self._second = limit, 0
        self._seen: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it."""
        second = int(record.created)
        if second != self._second:
            self._second, self._seen = second, {}
        key = (record.name, str(record.msg))
        self._seen[key] = self._seen.get(key, 0) + 1
        return self._seen[key] <= self._limit


def configure() -> None:
    """Send everything from INFO on to stderr; the Kafka clients from ERROR on (they repeat themselves while a broker is away)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(Sparing())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("aiokafka", "kafka"):
        logging.getLogger(name).setLevel(logging.ERROR)
