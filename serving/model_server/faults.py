"""The one way a request, a load or a reload fails: a canonical code and a text, the same over gRPC and REST.

gRPC knows the codes by number, TensorFlow raises them as exceptions, HTTP has its own: all three tables are here.
"""

from __future__ import annotations

from enum import IntEnum

from feedback.errors import EverloopError


class Code(IntEnum):
    """The canonical codes; the numbers are those of gRPC and of TensorFlow's exceptions."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS: dict[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""FAILED_PRECONDITION is 400 here, not 412: so the official server answers."""

GRPC_MESSAGE_LIMIT = 1024
"""Characters of an error text that gRPC carries; REST carries all of it."""


class ServingError(EverloopError):
    """A request, a load or a reload is refused with a canonical code."""

    def __init__(self, code: Code, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)

    @property
    def status(self) -> str:
        """The code and the text in one, as the official server prints a status inside another."""
        return f"{self.code.name}: {self.message}"


def invalid(message: str) -> ServingError:
    """An INVALID_ARGUMENT, by far the most common refusal."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def precondition(message: str) -> ServingError:
    """A FAILED_PRECONDITION."""
    return ServingError(Code.FAILED_PRECONDITION, message)


def missing(message: str) -> ServingError:
    """A NOT_FOUND."""
    return ServingError(Code.NOT_FOUND, message)


def grpc_text(message: str) -> str:
    """The text as gRPC carries it: cut, with a mark, where it is longer than the limit."""
    mark = "...TRUNCATED"
    return message if len(message) <= GRPC_MESSAGE_LIMIT else message[: GRPC_MESSAGE_LIMIT - len(mark)] + mark
