"""What a model server can be asked and what it answers, whichever protocol and transport carry it.

An `Api` writes requests and reads replies and sends nothing: each of its methods is a generator that yields
`Request`s, is sent a `Reply` for each, and returns the answer. client.py runs them, blocking or under
asyncio, over the channel of a transport.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from slipway_client.errors import NotReachable, RequestFailed, TimedOut, WrongModel, WrongSignature
from slipway_client.json_values import Array
from slipway_client.requests import FixedRequest

Transport = Literal["grpc", "rest"]
Examples = Sequence[Mapping[str, Array]]

# A signature's method as a model names it -> the word for it here.
METHODS = {f"tensorflow/serving/{name}": name for name in ("predict", "classify", "regress")}
UNNAMED = ""  # the signature of a model that has but one way to be asked, and no name for it


@dataclass(frozen=True)
class TensorSpec:
    """dtype: numpy's name. shape: None stands for an unknown size, and for a shape of unknown rank."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """One way to ask a model. method: predict, classify, regress, or the server's own name for it.

    defaults: the inputs that a request may leave out.
    """

    name: str
    method: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    defaults: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Metadata:
    """What a model says of itself. version: None if it has no number.

    The Open Inference Protocol has no signatures: a model has the UNNAMED one, which stands for any name.
    """

    model: str
    version: int | None
    signatures: Mapping[str, Signature]

    def signature(self, name: str, server: str) -> Signature:
        """One signature. Raises WrongSignature that names those there are."""
        found = self.signatures.get(name, self.signatures.get(UNNAMED))
        if found is None:
            there = ", ".join(sorted(self.signatures)) or "none"
            raise WrongSignature(
                f"model {self.model} has no signature {name!r}; it has: {there}",
                where=server,
                action="ask for one of these, or export the model with this signature",
            )
        return found


@dataclass(frozen=True)
class VersionStatus:
    """state: START, LOADING, AVAILABLE, UNLOADING or END. error: why it is not served; empty if it is.

    version: None where the server's versions are no numbers.
    """

    version: int | None
    state: str
    error: str = ""


@dataclass(frozen=True)
class Answer:
    """outputs: key -> array. Of classify "classes" (bytes) and "scores", [examples, classes]; of regress
    "outputs", [examples].

    version: of the model that answered, or None if the transport does not tell (TensorFlow Serving's REST).
    """

    outputs: Mapping[str, Array]
    version: int | None = None


@dataclass(frozen=True)
class Request:
    """One request as it is sent. path: of gRPC's method, or of the URL. body: None for a GET."""

    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """One reply as it came. status: gRPC's name of it, or that of the HTTP code. said: the server's words
    where it is not OK. headers: HTTP's, their names in lower case."""

    status: str
    body: bytes = b""
    said: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


T = TypeVar("T")
Steps = Generator[Request, Reply, T]


class Api(ABC):
    """One protocol over one transport. server: HOST:PORT, for the errors."""

    def __init__(self, server: str) -> None:
        self.server = server

    @abstractmethod
    def status(self, model: str) -> Steps[tuple[VersionStatus, ...]]: ...

    @abstractmethod
    def metadata(self, model: str, version: int | None) -> Steps[Metadata]: ...

    @abstractmethod
    def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, Array],
        version: int | None,
        output_filter: Sequence[str],
    ) -> Steps[Answer]: ...

    @abstractmethod
    def classify(
        self, model: str, signature: str, examples: Examples, version: int | None
    ) -> Steps[Answer]: ...

    @abstractmethod
    def regress(
        self, model: str, signature: str, examples: Examples, version: int | None
    ) -> Steps[Answer]: ...

    @abstractmethod
    def prepare(self, model: str, request: FixedRequest) -> Steps[Callable[[], Steps[Answer]]]:
        """Write a request once; what is returned sends it, any number of times."""

    def accepted(self, reply: Reply, model: str) -> bytes:
        """The body of a reply that is OK. Raises the error that its status stands for."""
        if reply.status != "OK":
            raise self.refused(reply.status, reply.said, model)
        return reply.body

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Turn a failure to read an answer into an error that blames the server, whatever it sent."""
        try:
            yield
        except KeyError as error:
            raise self.unreadable(f"{what} without {error}") from error
        except (
            *(DecodeError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError),
        ) as error:
            raise self.unreadable(f"not {what}: {error}") from error

    def unreadable(self, why: str) -> RequestFailed:
        return RequestFailed(f"the answer cannot be read: {why}", where=self.server, status="DATA_LOSS")

    def refused(self, status: str, said: str, model: str) -> RequestFailed:
        """The error for a status the server answered with; said: its own words, which become the tail."""
        known = status in ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION")
        if known and "signature" in said.lower():
            return WrongSignature(
                "the server does not know what was asked", where=self.server, tail=said, status=status
            )
        if status == "NOT_FOUND":
            return WrongModel(
                f"the server has no model {model!r} (or not this version of it)",
                where=self.server,
                tail=said,
                action="give the name it serves with --model_name",
            )
        if status == "UNIMPLEMENTED":
            return NotReachable(
                "what answers there is not a model server",
                where=self.server,
                tail=said,
                action="ask the port of a TensorFlow Serving (8500 is gRPC's, 8501 REST's by default), "
                "or another protocol with --protocol",
                status=status,
            )
        if status == "DEADLINE_EXCEEDED":
            return TimedOut("the server gave up on the request", where=self.server, tail=said)
        if status in _LOGIN:
            what, action = _LOGIN[status]
            return RequestFailed(what, where=self.server, tail=said, action=action, status=status)
        return RequestFailed(f"the server answered {status}", where=self.server, tail=said, status=status)


_LOGIN = {
    "UNAUTHENTICATED": (
        "the server does not accept this client's token, or wants one",
        "give the file that holds a valid token with --token_file",
    ),
    "PERMISSION_DENIED": (
        "the server knows this client and does not let it do this",
        "use a token, or a certificate, that is allowed to",
    ),
}


def classification(rows: Sequence[Sequence[tuple[bytes, float]]]) -> dict[str, Array]:
    """Classify's answer from (label, score) pairs for each example. Raises ValueError for unequal rows.

    Servers make all rows from one tensor. Short rows are not filled up: a small answer could take any
    amount of memory then.
    """
    width = len(rows[0]) if rows else 0
    if any(len(row) != width for row in rows):
        raise ValueError("the examples have different numbers of classes")
    classes = np.empty((len(rows), width), dtype=object)
    scores = np.empty((len(rows), width), dtype=np.float32)
    for index, row in enumerate(rows):
        for place, (label, score) in enumerate(row):
            classes[index, place] = label
            scores[index, place] = score
    return {"classes": classes, "scores": scores}


def regression(values: Sequence[float]) -> dict[str, Array]:
    """Regress's answer, under the key that TensorFlow's regression signatures give it."""
    return {"outputs": np.array(values, np.float32)}
