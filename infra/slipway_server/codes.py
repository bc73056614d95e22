"""A failed request: one of gRPC's canonical codes and a sentence for the caller."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """google.rpc.Code; the numbers are what TensorFlow, gRPC and StatusProto share."""

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


_LONGEST = 1024


class StatusError(Exception):
    """What a request is answered with when it cannot be served. Expected, so never logged as a fault."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def details(self) -> str:
        """The message as gRPC sends it: cut, because it travels in an HTTP/2 header."""
        if len(self.message) <= _LONGEST:
            return self.message
        return f"{self.message[:_LONGEST]}...TRUNCATED"


def invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> StatusError:
    return StatusError(Code.NOT_FOUND, message)
