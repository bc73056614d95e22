"""What gRPC servers and calls have in common: ports, messages from bytes, failures as statuses."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from slipway_client.errors import EnvironmentFault

from slipway_server import log
from slipway_server.codes import Code, StatusError
from slipway_server.tls import Tls
from slipway_server.tokens import Tokens

STATUS = {known.value[0]: known for known in grpc.StatusCode}
T = TypeVar("T")


def listen(server: grpc.aio.Server, address: str, tls: Tls | None, where: str, flag: str) -> None:
    """Bind a server. Raises EnvironmentFault, with where and the flag to change, when that fails."""
    try:
        if tls is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, tls.credentials())
    except RuntimeError as error:
        raise EnvironmentFault(
            f"cannot listen on {where}",
            tail=str(error),
            action=f"choose another {flag}, or end what listens there",
        ) from error


def guarded(answer: Callable[[Any, Any], Awaitable[T]]) -> Callable[[Any, Any], Awaitable[T]]:
    """Failures become gRPC statuses; one that was not foreseen is logged and answered INTERNAL."""

    async def handler(request: Any, context: Any) -> T:
        try:
            return await answer(request, context)
        except StatusError as error:
            code, details = error.code, error.details()
        except grpc.aio.AbortError:
            raise  # the status is sent already
        except Exception as error:  # noqa: BLE001  # the server must outlive any one request
            log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())
            code, details = Code.INTERNAL, "internal error; the server's log has it"
        await context.abort(STATUS[int(code)], details)
        raise AssertionError("abort raises")

    return handler


def with_token(
    tokens: Tokens, answer: Callable[[Any, Any], Awaitable[T]]
) -> Callable[[Any, Any], Awaitable[T]]:
    """Answer calls that carry a token, before anything of them is read."""

    async def handler(request: Any, context: Any) -> T:
        given = (value for key, value in context.invocation_metadata() or () if key == "authorization")
        tokens.check(next(given, ""))
        return await answer(request, context)

    return handler


def parse(kind: Any, raw: bytes) -> Any:
    """A message of `kind`. gRPC itself prescribes INTERNAL for a request that cannot be parsed."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise StatusError(Code.INTERNAL, f"the request is not a valid {name}") from error


def serialized(message: Any) -> bytes:
    out: bytes = message.SerializeToString()
    return out
