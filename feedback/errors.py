"""The one error tree. A class says how to react; the message names the thing, its value and what is allowed.

    EverloopError
    ├── ConfigError            the user's configuration is wrong: print one line, exit 2
    ├── UsageError             a command cannot be carried out as asked: print one line, exit 2
    ├── EventError             one event is refused: dead letter (or HTTP 422), go on with the next
    │   └── DecodeError        its bytes are not an event at all
    ├── CorruptError           a file or record does not match its checksum or shape: refuse it, take the one before it
    ├── FencedError            another writer with a higher epoch exists: stop writing, for good
    ├── DivergedError          two things that must be equal are not: raise the epoch, publish anew
    └── UnavailableError       a part outside this process does not answer: retry (retriable = True)
        └── BufferFullError    a bounded buffer has no room until that part is back: slow down or drop, then retry

`retriable` is an attribute of the class, so that one line decides: `if error.retriable: wait and try again`.
Foreign errors are translated at one seam each, with `raise … from`.
"""

from __future__ import annotations

from typing import ClassVar


class EverloopError(Exception):
    """The root of every error that everloop raises on purpose."""

    retriable: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""


class ConfigError(EverloopError):
    """A setting is unknown, has the wrong type or an impossible value."""

    def __init__(self, *, key: str, value: object, allowed: str, file: str = "everloop.toml") -> None:
        self.file, self.key, self.value, self.allowed = file, key, value, allowed
        super().__init__(f"{file}: {key} = {value!r}: {allowed}")


class UsageError(EverloopError):
    """A command or call cannot be carried out as asked; nothing was changed."""


class EventError(EverloopError):
    """One event is refused. `field` and `reason` are stable words for metrics and dead letters."""

    def __init__(self, reason: str, *, field: str = "", value: object = None, allowed: str = "") -> None:
        self.reason, self.field, self.value, self.allowed = reason, field, value, allowed
        named = f"{field} = {_short(value)}: " if field else ""
        super().__init__(f"{reason}: {named}{allowed}" if named or allowed else reason)


class DecodeError(EventError):
    """The bytes are not JSON, or not an event of a known type, or a field is missing or of the wrong type."""


class CorruptError(EverloopError):
    """A file or a record does not match its checksum, its size or its shape."""


class FencedError(EverloopError):
    """A writer with a higher epoch or the same transactional id has taken over."""


class DivergedError(EverloopError):
    """Two states that must be byte-identical are not."""


class UnavailableError(EverloopError):
    """A broker, store, model server or object store does not answer."""

    retriable = True


class BufferFullError(UnavailableError):
    """A bounded buffer is full because what drains it is away."""


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
