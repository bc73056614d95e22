"""gRPC, blocking and under asyncio."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Any

from slipway_client.channel import AsyncChannel, Channel, Connection, Deadline, Retries, Wire
from slipway_client.interface import Reply, Request

# gRPC's C core writes what it tries to stderr; what matters comes as an error with its words.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

_COMPRESSION = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
# gRPC tells nowhere whether UNAVAILABLE came from the server. These are its own words for a connection that
# could not be made or was lost.
_NO_CONNECTION = re.compile(
    "|".join(
        (
            r"failed to connect|connections to all|empty address list|resolving|resolution|lookup",
            r"connection (reset|refused|closed|aborted|attempt)|broken pipe|recvmsg|sendmsg|socket closed",
            r"goaway|stream removed|keepalive|ping timeout|handshak|endpoint|transport|subchannel",
        )
    ),
    re.IGNORECASE,
)


class GrpcChannel(Channel):
    def __init__(self, connection: Connection) -> None:
        self._wire = _GrpcWire(connection)
        self._channel = self._wire.open(grpc)
        self._methods: dict[str, Any] = {}

    def send(self, request: Request, deadline: Deadline) -> Reply:
        try:
            metadata = self._wire.metadata()
            method = _method(self._channel, self._methods, request.path)
            body = method(request.body, timeout=deadline.left(), metadata=metadata)
        except grpc.RpcError as error:
            refused, unreachable = self._wire.ended(error, deadline)
            if refused is not None:
                return refused
            raise self._wire.unreachable(unreachable) from error
        return Reply("OK", body)

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcChannel(AsyncChannel):
    def __init__(self, connection: Connection) -> None:
        self._wire = _GrpcWire(connection)
        self._channel = self._wire.open(grpc.aio)
        self._methods: dict[str, Any] = {}

    async def send(self, request: Request, deadline: Deadline) -> Reply:
        try:
            metadata = self._wire.metadata()
            method = _method(self._channel, self._methods, request.path)
            body = await method(request.body, timeout=deadline.left(), metadata=metadata)
        except grpc.RpcError as error:
            refused, unreachable = self._wire.ended(error, deadline)
            if refused is not None:
                return refused
            raise await asyncio.to_thread(self._wire.unreachable, unreachable) from error
        return Reply("OK", body)

    async def close(self) -> None:
        await self._channel.close()


class _GrpcWire(Wire):
    def open(self, library: Any) -> Any:
        """A channel of grpc or of grpc.aio, which take the same."""
        connection, target = self.connection, self.target()
        compression = _COMPRESSION.get(connection.compression or "")
        options = _options(connection)
        if connection.tls is None:
            return library.insecure_channel(target, options, compression=compression)
        tls = connection.tls
        trust = grpc.ssl_channel_credentials(tls.pem or None, tls.key, tls.chain)
        return library.secure_channel(target, trust, options, compression=compression)

    def target(self) -> str:
        host, port = self.connection.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        said = self.authorization()
        return (("authorization", said),) if said else ()

    def ended(self, error: Any, deadline: Deadline) -> tuple[Reply | None, str]:
        """How a call ended that did not end well: the server's refusal, or why the server was not reached.

        Raises TimedOut.
        """
        code, said = error.code().name, self.hidden(error.details() or "")
        if code == "DEADLINE_EXCEEDED":
            raise self.timed_out(deadline) from error
        if code == "UNAVAILABLE" and (not said or _NO_CONNECTION.search(said)):
            return None, said
        return Reply(code, said=said), ""


def _method(channel: Any, methods: dict[str, Any], path: str) -> Any:
    """The path's callable, bytes in and out, made once."""
    known = methods.get(path)
    if known is None:
        known = methods[path] = channel.unary_unary(path)
    return known


def _options(connection: Connection) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # The addresses of a cluster and of a tunnel are not for a proxy to reach.
        ("grpc.enable_http_proxy", 0),
        # Two clients of one address must not share a connection that one of them closes.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A service config from DNS would change what was asked for here.
        ("grpc.service_config_disable_resolution", 1),
        # A retry that nobody asked for would hide an error from the statistics.
        ("grpc.enable_retries", int(connection.retries is not None)),
        ("grpc.service_config", json.dumps(service_config(connection.retries, connection.round_robin))),
    ]
    if connection.round_robin:
        options.append(("grpc.dns_min_time_between_resolutions_ms", 1000))
    if connection.keep_alive is not None:
        options += [
            ("grpc.keepalive_time_ms", round(connection.keep_alive * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ]
    if connection.tls is not None and connection.tls.server_name:
        options.append(("grpc.ssl_target_name_override", connection.tls.server_name))
    if connection.authority:
        options.append(("grpc.default_authority", connection.authority))
    return options


def service_config(retries: Retries | None, round_robin: bool) -> dict[str, Any]:
    """gRPC's own description of retries and balancing, for all methods."""
    config: dict[str, Any] = {}
    if round_robin:
        config["loadBalancingConfig"] = [{"round_robin": {}}]
    if retries is not None:
        policy = {
            "maxAttempts": retries.attempts,
            "initialBackoff": f"{retries.first:.9f}s",
            "maxBackoff": f"{retries.most:.9f}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": list(retries.statuses),
        }
        config["methodConfig"] = [{"name": [{}], "retryPolicy": policy}]
    return config
