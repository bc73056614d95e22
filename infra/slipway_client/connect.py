"""The way in: a client for an address, over the transport its port speaks."""

from __future__ import annotations

from typing import TypedDict, Unpack

from slipway_client.channel import (
    AsyncChannel,
    Channel,
    Compression,
    Connection,
    Contents,
    Protocol,
    Retries,
)
from slipway_client.client import AsyncClient, Client
from slipway_client.credentials import Tls, Token
from slipway_client.detection import Detected
from slipway_client.grpc_channel import AsyncGrpcChannel, GrpcChannel
from slipway_client.http_channel import AsyncHttpChannel, HttpChannel
from slipway_client.interface import Api, Transport
from slipway_client.over_grpc import TensorFlowOverGrpc
from slipway_client.over_rest import TensorFlowOverRest
from slipway_client.v2 import V2
from slipway_client.v2_over_grpc import V2OverGrpc
from slipway_client.v2_over_rest import V2OverRest


class Options(TypedDict, total=False):
    """The fields of Connection that have defaults; its docstring explains them."""

    protocol: Protocol
    timeout: float
    tls: Tls | None
    token: Token | None
    retries: Retries | None
    round_robin: bool
    keep_alive: float | None
    compression: Compression | None
    contents: Contents | None
    authority: str


def connect(server: str, transport: Transport = "grpc", **options: Unpack[Options]) -> Client:
    """A client for HOST:PORT; nothing is sent before the first call. options: see channel.Connection."""
    connection = Connection(server, transport, **options)
    channel: Channel = GrpcChannel(connection) if transport == "grpc" else HttpChannel(connection)
    return Client(connection, _api(connection), channel)


def connect_async(server: str, transport: Transport = "grpc", **options: Unpack[Options]) -> AsyncClient:
    """As `connect`, for asyncio; called in the event loop that the client will be used in."""
    connection = Connection(server, transport, **options)
    channel: AsyncChannel = (
        AsyncGrpcChannel(connection) if transport == "grpc" else AsyncHttpChannel(connection)
    )
    return AsyncClient(connection, _api(connection), channel)


def _api(connection: Connection) -> Api:
    server, contents = connection.server, connection.contents
    tensorflow: Api
    v2: V2
    if connection.transport == "grpc":
        tensorflow, v2 = TensorFlowOverGrpc(server), V2OverGrpc(server, raw=contents != "typed")
    else:
        tensorflow, v2 = TensorFlowOverRest(server), V2OverRest(server, raw=contents == "raw")
    if connection.protocol == "auto":
        return Detected(server, tensorflow, v2)
    return v2 if connection.protocol == "v2" else tensorflow
