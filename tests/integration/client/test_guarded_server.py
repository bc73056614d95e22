"""slipway's own model server behind TLS, client certificates and tokens, asked by slipway's own client."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from slipway_client.client import Tls, Token, Transport
from slipway_client.connect import connect, connect_async
from slipway_client.errors import NotReachable, RequestFailed

from tests.integration.server.conftest import made, start  # noqa: F401  # fixtures: a real model, a real server
from tests.standins.authority import Authority, ssl_config

TRANSPORTS: tuple[Transport, ...] = ("grpc", "rest")
IMAGES = {"images": np.zeros((1, 784), np.float32)}


def test_certificates_and_tokens_open_the_door_and_a_new_token_is_taken_up(made, start, tmp_path):  # noqa: F811
    servers, clients = Authority("servers"), Authority("clients")
    tokens = tmp_path / "tokens"
    tokens.write_text("the-first-of-the-tokens\nthe-second-of-the-tokens\n")
    config = ssl_config(tmp_path / "ssl.config", servers.sign("server"), clients.certificate)
    server = start(
        *("--model_name=net", f"--model_base_path={made.models}/net", f"--token_file={tokens}"),
        *(f"--ssl_config_file={config}", f"--rest_ssl_config_file={config}"),
    )
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    files["ca"].write_bytes(servers.certificate)
    key, certificate = clients.sign("client")
    files["key"].write_bytes(key)
    files["cert"].write_bytes(certificate)
    mine = tmp_path / "token"
    mine.write_text("the-first-of-the-tokens")
    tls = Tls(files["ca"], files["cert"], files["key"])
    for transport in TRANSPORTS:
        port = server.port if transport == "grpc" else server.rest_port
        address = f"127.0.0.1:{port}"

        async def ask(address=address, transport=transport):
            async with connect_async(address, transport, tls=tls, token=Token(mine)) as client:
                return await client.predict("net", "predict_images", IMAGES)

        with connect(address, transport, tls=tls, token=Token(mine)) as client:
            for token in ("the-first-of-the-tokens", "the-second-of-the-tokens"):
                mine.write_text(token)
                assert client.predict("net", "predict_images", IMAGES).outputs["scores"].shape == (1, 10)
            assert asyncio.run(ask()).outputs["scores"].shape == (1, 10)
            mine.write_text("the-third-of-the-tokens")
            with pytest.raises(RequestFailed, match="does not accept this client's token") as refused:
                client.predict("net", "predict_images", IMAGES)
            assert "the-third-of-the-tokens" not in "".join(refused.value.lines())
        with (
            connect(address, transport, tls=Tls(files["ca"]), token=Token(mine)) as client,
            pytest.raises(NotReachable) as told,
        ):
            client.metadata("net")
        assert "certificate of its clients" in "".join(told.value.lines())
