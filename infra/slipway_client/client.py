"""What a client of a model server can do, whichever transport carries it."""

from __future__ import annotations

import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np

from slipway_client.errors import (
    NotReachable,
    NotReady,
    RequestFailed,
    TimedOut,
    TlsFailed,
    UsageError,
    WrongModel,
    WrongSignature,
    split_address,
)
from slipway_client.probe import why_unreachable
from slipway_client.requests import Array, FixedRequest

Transport = Literal["grpc", "rest"]
Examples = Sequence[Mapping[str, Array]]

# A signature's method as a model names it -> the word for it here.
METHODS = {f"tensorflow/serving/{name}": name for name in ("predict", "classify", "regress")}


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
    """What a model says of itself."""

    model: str
    version: int | None
    signatures: Mapping[str, Signature]

    def signature(self, name: str, server: str) -> Signature:
        """One signature. Raises WrongSignature that names those there are."""
        found = self.signatures.get(name)
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
    """state: START, LOADING, AVAILABLE, UNLOADING or END. error: why it is not served; empty if it is."""

    version: int
    state: str
    error: str = ""


@dataclass(frozen=True)
class Answer:
    """outputs: key -> array; for classify "classes" (bytes) and "scores", [examples, classes]; for regress
    "outputs", [examples].

    version: of the model that answered, or None if the transport does not tell (REST).
    """

    outputs: Mapping[str, Array]
    version: int | None = None


@dataclass(frozen=True)
class Tls:
    """ca_file: PEM of the CA, or None to trust what this machine trusts.

    Raises UsageError when the file does not hold a certificate.
    """

    ca_file: Path | None = None
    pem: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if self.ca_file is not None:
            try:
                object.__setattr__(self, "pem", self.ca_file.read_bytes())
            except OSError as error:
                raise UsageError(f"cannot read the CA: {error.strerror}", where=str(self.ca_file)) from error
            try:
                if not self.pem or not self.context().cert_store_stats()["x509"]:
                    raise ValueError("nothing to trust")  # ssl would take this machine's CAs instead
            except (ssl.SSLError, ValueError) as error:  # ValueError: not even text
                raise UsageError(
                    "this is not a PEM file with certificates",
                    where=str(self.ca_file),
                    action="it begins with -----BEGIN CERTIFICATE-----",
                ) from error

    def context(self) -> ssl.SSLContext:
        """An SSL context that verifies a server's chain and its name."""
        return ssl.create_default_context(cadata=self.pem.decode("ascii") if self.pem else None)


class Client(ABC):
    """A connection to one server. Every method raises the errors of slipway_client.errors."""

    transport: ClassVar[Transport]

    def __init__(self, server: str, *, timeout: float = 10.0, tls: Tls | None = None) -> None:
        self.server = server
        self.timeout = timeout
        self.host, self.port = split_address(server)
        self.tls = tls

    @abstractmethod
    def status(self, model: str) -> tuple[VersionStatus, ...]: ...

    @abstractmethod
    def metadata(self, model: str, version: int | None = None) -> Metadata: ...

    @abstractmethod
    def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, Array],
        *,
        version: int | None = None,
        output_filter: Sequence[str] = (),
    ) -> Answer: ...

    @abstractmethod
    def classify(
        self, model: str, signature: str, examples: Examples, *, version: int | None = None
    ) -> Answer: ...

    @abstractmethod
    def regress(
        self, model: str, signature: str, examples: Examples, *, version: int | None = None
    ) -> Answer: ...

    @abstractmethod
    def prepare(self, model: str, request: FixedRequest) -> Callable[[], Answer]:
        """A request written once, to be sent any number of times from any thread."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def unreachable(self, said: str) -> RequestFailed:
        """Why no answer came, found out by connecting by hand. said: the library's words."""
        context = None if self.tls is None else self.tls.context()
        return why_unreachable(self.server, tls=context, transport=self.transport, said=said)

    def unreadable(self, why: str) -> RequestFailed:
        return RequestFailed(f"the answer cannot be read: {why}", where=self.server, status="DATA_LOSS")

    def timed_out(self) -> RequestFailed:
        return TimedOut(f"no answer within {self.timeout:g} s", where=self.server)

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
                action="ask the port of a TensorFlow Serving: 8500 is gRPC's, 8501 REST's by default",
                status=status,
            )
        return RequestFailed(f"the server answered {status}", where=self.server, tail=said, status=status)


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


def wait_available(client: Client, model: str, *, timeout: float, interval: float = 0.2) -> int:
    """Wait until a version of the model is AVAILABLE and return the newest such version.

    An address that does not answer yet is asked again until `timeout` seconds have passed. Raises WrongModel
    and TlsFailed at once; after `timeout` NotReady with what the server said last, or the error of the last
    attempt.
    """
    deadline = time.monotonic() + timeout
    last: RequestFailed
    while True:
        try:
            versions = client.status(model)
        except (WrongModel, TlsFailed):
            raise
        except RequestFailed as error:
            last = error
        else:
            available = [one.version for one in versions if one.state == "AVAILABLE"]
            if available:
                return max(available)
            said = [f"version {one.version}: {one.state} {one.error}".rstrip() for one in versions]
            last = NotReady(
                f"no version of model {model} is AVAILABLE",
                where=client.server,
                tail="\n".join(said) or "the server knows the model and lists no version of it",
                action="wait for it to load; the model server's log tells why it does not",
            )
        if time.monotonic() + interval > deadline:
            if isinstance(last, TimedOut):
                last.action = (
                    last.action or "the server accepts connections and does not answer: read its log"
                )
            raise last
        time.sleep(interval)
