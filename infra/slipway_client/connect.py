"""The way in: a client for an address, over the transport its port speaks."""

from __future__ import annotations

from slipway_client.client import Client, Tls, Transport
from slipway_client.over_grpc import GrpcClient
from slipway_client.over_rest import RestClient


def connect(
    server: str, transport: Transport = "grpc", *, timeout: float = 10.0, tls: Tls | None = None
) -> Client:
    """A client for HOST:PORT; nothing is sent before the first call. timeout: seconds for each request."""
    if transport == "grpc":
        return GrpcClient(server, timeout=timeout, tls=tls)
    return RestClient(server, timeout=timeout, tls=tls)
