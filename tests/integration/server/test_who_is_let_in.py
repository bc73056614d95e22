"""TLS on both doors: who is let in, and certificates and tokens that change while requests are under way."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.standins.authority import Authority, ssl_config

from .conftest import PREDICTION, Made, Server, StartServer, free_port, predict_request
from .protos import floats

REQUEST = predict_request("net", "predict_images", images=floats([1, 784], [0.5])).SerializeToString()
BODY = json.dumps({"signature_name": "predict_images", "instances": [[0.5] * 784]})


@dataclass
class Guarded:
    """A server with TLS on both doors, and what it was started with."""

    server: Server
    authority: Authority
    config: Path
    health_port: int
    ca: bytes

    def over_grpc(
        self,
        ca: bytes | None = None,
        pair: tuple[bytes, bytes] | None = None,
        token: str = "",
        method: str = f"{PREDICTION}/Predict",
    ) -> grpc.StatusCode:
        """The status of one request on a connection of its own."""
        key, certificate = pair or (None, None)
        credentials = grpc.ssl_channel_credentials(ca or self.ca, key, certificate)
        options = (("grpc.use_local_subchannel_pool", 1),)
        with grpc.secure_channel(f"127.0.0.1:{self.server.port}", credentials, options) as channel:
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            try:
                channel.unary_unary(f"/{method}")(
                    REQUEST if method.endswith("Predict") else b"", timeout=20, metadata=metadata
                )
            except grpc.RpcError as error:
                failure: Any = error
                code: grpc.StatusCode = failure.code()
                return code
            return grpc.StatusCode.OK

    def over_rest(
        self,
        ca: bytes | None = None,
        pair: tuple[bytes, bytes] | None = None,
        token: str = "",
        method: str = "POST",
        path: str = "/v1/models/net:predict",
    ) -> int:
        """The HTTP status of one request on a connection of its own. Raises ssl.SSLError or OSError."""
        context = ssl.create_default_context(cadata=(ca or self.ca).decode())
        if pair is not None:
            file = self.config.with_name("client.pem")
            file.write_bytes(b"".join(pair))
            context.load_cert_chain(file)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.server.rest_port, timeout=20, context=context
        )
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, BODY if method == "POST" else None, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status

    def show(
        self, pair: tuple[bytes, bytes], clients: bytes = b"", event: str = "certificates_taken_up"
    ) -> None:
        """Put another certificate in the place of the server's, and wait until that is told of."""
        count = len(self.server.events(event))
        ssl_config(self.config.with_name("fresh"), pair, clients).replace(self.config)
        self.server.wait_for(event, count=count + 1)


def guarded(made: Made, start: StartServer, folder: Path, *flags: str, clients: bytes = b"") -> Guarded:
    authority = Authority("servers")
    config = ssl_config(folder / "ssl.config", authority.sign("server"), clients)
    health_port = free_port()
    server = start(
        *("--model_name=net", f"--model_base_path={made.models}/net", f"--health_port={health_port}"),
        *(f"--ssl_config_file={config}", f"--rest_ssl_config_file={config}", *flags),
    )
    return Guarded(server, authority, config, health_port, authority.certificate)


@pytest.fixture(scope="module")
def servers(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    starter = StartServer(tmp_path_factory.mktemp("tls"))
    yield starter
    starter.end()


TOKENS = ("first-token-of-the-server", "second-token-of-the-server")


@pytest.fixture(scope="module")
def with_token(made: Made, servers: StartServer) -> Guarded:
    tokens = servers.folder / "tokens"
    tokens.write_text("\n".join(TOKENS) + "\n")
    (servers.folder / "open").mkdir()
    return guarded(made, servers, servers.folder / "open", f"--token_file={tokens}")


@pytest.fixture(scope="module")
def with_clients(made: Made, servers: StartServer) -> tuple[Guarded, Authority]:
    clients = Authority("clients")
    (servers.folder / "closed").mkdir()
    return guarded(made, servers, servers.folder / "closed", clients=clients.certificate), clients


def test_who_trusts_the_authority_and_has_a_token_is_served(with_token: Guarded) -> None:
    for token in TOKENS:
        assert with_token.over_grpc(token=token) is grpc.StatusCode.OK
        assert with_token.over_rest(token=token) == 200


def test_a_client_of_another_authority_leaves(with_token: Guarded) -> None:
    other = Authority("servers").certificate
    assert with_token.over_grpc(ca=other, token=TOKENS[0]) is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(ssl.SSLCertVerificationError):
        with_token.over_rest(ca=other, token=TOKENS[0])


@pytest.mark.parametrize("token", ["", "first-token-of-the-serve", "first-token-of-the-server2", "x" * 9000])
def test_without_one_of_the_tokens_nobody_is(with_token: Guarded, token: str) -> None:
    codes = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)  # metadata of 8 KB at most
    assert with_token.over_grpc(token=token) in codes[: 1 + (len(token) > 8000)]
    for method in ("tensorflow.serving.ModelService/GetModelStatus", "grpc.reflection.v1.ServerReflection/x"):
        assert with_token.over_grpc(token=token, method=method) is not grpc.StatusCode.OK
    assert with_token.over_rest(token=token) == 401
    for path in ("/v1/models/net/metadata", "/monitoring/prometheus/metrics", "/other"):
        assert with_token.over_rest(token=token, method="GET", path=path) == 401


def test_probes_need_no_token_and_no_certificate(with_token: Guarded) -> None:
    assert with_token.over_grpc(method="grpc.health.v1.Health/Check") is grpc.StatusCode.OK
    assert with_token.over_rest(method="GET", path="/v1/models/net") == 200
    with grpc.insecure_channel(f"127.0.0.1:{with_token.health_port}") as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20) == b"\x08\x01"
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            channel.unary_unary(f"/{PREDICTION}/Predict")(REQUEST, timeout=20)


def test_plain_text_gets_no_answer(with_token: Guarded) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", with_token.server.rest_port, timeout=20)
    with contextlib.closing(connection), pytest.raises((OSError, http.client.HTTPException)):
        connection.request("GET", "/v1/models/net")
        connection.getresponse()
    channel = grpc.insecure_channel(f"127.0.0.1:{with_token.server.port}")
    with channel, pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
        channel.unary_unary(f"/{PREDICTION}/Predict")(REQUEST, timeout=20)


def test_client_verify_wants_a_certificate_of_the_clients_authority(
    with_clients: tuple[Guarded, Authority],
) -> None:
    server, clients = with_clients
    assert server.over_grpc(pair=clients.sign("client")) is grpc.StatusCode.OK
    assert server.over_rest(pair=clients.sign("client")) == 200
    for pair in (None, clients.sign("client", ends_in_days=-1), Authority("clients").sign("client")):
        assert server.over_grpc(pair=pair) is grpc.StatusCode.UNAVAILABLE
        with pytest.raises((ssl.SSLError, OSError)):
            server.over_rest(pair=pair)


def test_an_expired_certificate_is_refused_by_clients_and_a_renewed_one_is_not(
    with_clients: tuple[Guarded, Authority],
) -> None:
    server, clients = with_clients
    server.show(server.authority.sign("server", ends_in_days=-1), clients.certificate)
    assert server.over_grpc(pair=clients.sign("client")) is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        server.over_rest(pair=clients.sign("client"))
    server.show(server.authority.sign("server"), clients.certificate)
    assert server.over_grpc(pair=clients.sign("client")) is grpc.StatusCode.OK
    assert server.over_rest(pair=clients.sign("client")) == 200


def test_what_cannot_be_used_changes_nothing(with_clients: tuple[Guarded, Authority]) -> None:
    server, clients = with_clients
    (key, _), (_, certificate) = (server.authority.sign("server") for _ in range(2))
    server.show((key, certificate), clients.certificate, "certificates_refused")
    assert server.over_grpc(pair=clients.sign("client")) is grpc.StatusCode.OK
    assert server.over_rest(pair=clients.sign("client")) == 200
    told = server.server.events("certificates_refused")[-1]
    assert "server_key and server_cert cannot be used together" in told["error"]


def test_certificates_and_tokens_are_rotated_under_load_without_a_failure(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    old, new = "the-old-token-of-1-year", "the-new-token-of-1-year"
    tokens = tmp_path / "tokens"
    tokens.write_text(old)
    server = guarded(made, start, tmp_path, f"--token_file={tokens}")
    second = Authority("servers, renewed")
    trusted = server.authority.certificate + second.certificate  # clients trust both while it is changed
    server.ca = trusted
    token = [old]
    failures: list[object] = []
    answers = {"grpc": 0, "rest": 0}
    stop = threading.Event()

    def ask(door: str) -> None:
        call: Any = server.over_grpc if door == "grpc" else server.over_rest
        while not stop.is_set():
            try:
                answer = call(token=token[0])
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
                continue
            if answer not in (grpc.StatusCode.OK, 200):
                failures.append(answer)
            answers[door] += 1

    askers = [threading.Thread(target=ask, args=(door,)) for door in ("grpc", "rest") * 2]
    for asker in askers:
        asker.start()
    try:
        for signer in (server.authority, second):
            pair = signer.sign("server")
            server.show(pair)
            assert ssl.get_server_certificate(("127.0.0.1", server.server.rest_port)) == pair[1].decode()
        tokens.write_text(f"{old}\n{new}\n")
        server.server.wait_for("tokens_taken_up")
        token[0] = new
        tokens.with_name("next").write_text(new)
        reached = dict(answers)
        while any(answers[door] < reached[door] + 4 for door in answers):  # those begun with the old are done
            assert all(asker.is_alive() for asker in askers)
        tokens.with_name("next").replace(tokens)
        server.server.wait_for("tokens_taken_up", count=2)
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert failures == []
    assert min(answers.values()) > 4
    assert server.over_rest(token=old) == 401
    assert server.over_grpc(token=old) is grpc.StatusCode.UNAUTHENTICATED
    assert not server.server.events("fault")
    lines = server.server.log.read_text().splitlines()
    assert all(line.startswith("{") for line in lines), "every line is an event"
    assert server.server.stop() == 0
