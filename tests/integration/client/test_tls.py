"""TLS against a stand-in that speaks it on both ports: right, and each error in words of its own."""

import datetime
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from slipway.cli import app
from slipway.core.errors import UsageError
from slipway_client import probe
from slipway_client.__main__ import main as prove
from slipway_client.client import Tls, Token, wait_available
from slipway_client.connect import connect
from slipway_client.errors import NotReachable, TlsFailed

from tests.standins.load import one_round
from tests.standins.model_server import Behaviour, ServerTls, StandIn, requests_file

TRANSPORTS = ("grpc", "rest")
NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Made:
    """Files: a CA, a server's certificate of it for localhost, an expired one, and a CA nobody uses."""

    ca: Path
    other_ca: Path
    server: ServerTls
    expired: ServerTls


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("tls")
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = _certificate("the CA", ca_key, signer=("the CA", ca_key), ca=True)
    other = _certificate("another CA", key, signer=("another CA", key), ca=True)
    server = _certificate("server", key, signer=("the CA", ca_key))
    expired = _certificate("server", key, signer=("the CA", ca_key), days=-1)
    for name, pem in (("ca", ca), ("other", other), ("server", server), ("expired", expired)):
        (folder / f"{name}.pem").write_bytes(pem)
    secret = folder / "server.key"
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Made(
        folder / "ca.pem",
        folder / "other.pem",
        ServerTls(folder / "server.pem", secret),
        ServerTls(folder / "expired.pem", secret),
    )


def _certificate(name, key, *, signer, ca=False, days=2):
    def named(words):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, words)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(signer[0]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=3))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        names = [x509.DNSName("localhost"), x509.DNSName("models.example")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer[1], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _client(server, transport, tls, host="localhost"):
    port = server.port if transport == "grpc" else server.rest_port
    return connect(f"{host}:{port}", transport, timeout=60.0, tls=tls)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_trusted_server_answers(made, transport):
    with StandIn(tls=made.server) as server, _client(server, transport, Tls(made.ca)) as client:
        assert client.status("mnist")[0].version == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("case", "what", "action"),
    [
        ("asked without TLS", "asked without it", "--ca,"),
        ("this machine's CAs", "not accepted: unable to get local issuer", "--ca"),
        ("another CA", "not accepted: unable to get local issuer", "--ca"),
        ("another name", "IP address mismatch", "localhost, models.example"),
        ("expired", "not accepted: certificate has expired", "--ca"),
    ],
)
def test_what_is_wrong_is_told_at_once(made, transport, case, what, action):
    tls = {
        "asked without TLS": None,
        "this machine's CAs": Tls(),
        "another CA": Tls(made.other_ca),
    }.get(case, Tls(made.ca))
    host = "127.0.0.1" if case == "another name" else "localhost"
    behind = made.expired if case == "expired" else made.server
    with StandIn(tls=behind) as server, _client(server, transport, tls, host) as client:
        with pytest.raises(TlsFailed, match=what) as failed:
            wait_available(client, "mnist", timeout=600)  # it does not wait: nothing would change
        assert action in failed.value.action
        assert failed.value.where == client.server
        assert failed.value.exit_code == 3


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_wants_a_clients_certificate(made, transport):
    mutual = ServerTls(made.server.certificate, made.server.key, client_ca=made.ca)
    with StandIn(tls=mutual) as server, _client(server, transport, Tls(made.ca)) as client:
        with pytest.raises(NotReachable) as failed:
            client.status("mnist")
        assert "certificate of its clients" in "".join(failed.value.lines())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_with_a_certificate_is_let_in_and_one_of_another_ca_is_told(made, transport):
    own = (made.server.certificate, made.server.key)
    mutual = ServerTls(*own, client_ca=made.ca)
    with StandIn(tls=mutual) as server:
        with _client(server, transport, Tls(made.ca, *own)) as client:
            assert client.ready("mnist")
        with _client(server, transport, Tls(made.ca, made.other_ca, made.server.key)) as client:
            with pytest.raises(NotReachable) as failed:
                client.status("mnist")
            assert "this client's certificate" in "".join(failed.value.lines())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_servers_name_may_be_another_than_the_hosts(made, transport):
    with StandIn(tls=made.server) as server:
        with _client(server, transport, Tls(made.ca, server_name="models.example"), "127.0.0.1") as client:
            assert client.ready("mnist")
        with _client(server, transport, Tls(made.ca, server_name="other.example")) as client:
            with pytest.raises(TlsFailed, match="ostname mismatch") as failed:
                client.status("mnist")
            assert "localhost, models.example" in failed.value.action


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_token_goes_over_tls_to_any_host(made, transport, tmp_path):
    (tmp_path / "token").write_text("a-token")
    port = "port" if transport == "grpc" else "rest_port"
    with StandIn(Behaviour(token="a-token"), tls=made.server) as server:  # of a stand-in
        address = f"localhost:{getattr(server, port)}"
        token = Token(tmp_path / "token")
        with connect(address, transport, timeout=60.0, tls=Tls(made.ca), token=token) as client:
            assert client.ready("mnist")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_command_speaks_mutual_tls(made, transport, tmp_path, capsys):
    mutual = ServerTls(made.server.certificate, made.server.key, client_ca=made.ca)
    asked = requests_file(tmp_path, count=2)
    with StandIn(tls=mutual) as server:
        port = server.port if transport == "grpc" else server.rest_port
        words = [f"127.0.0.1:{port}", f"--transport={transport}", f"--requests={asked}", "--num_tests=2"]
        words += [f"--ca={made.ca}", "--server-name=localhost", "--ready_timeout=0.1"]
        own = [f"--cert={made.server.certificate}", f"--key={made.server.key}"]
        assert (prove([*words, *own]), prove(words)) == (0, 3)
    assert "--cert and --key" in capsys.readouterr().err


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_other_transports_port(made, transport, monkeypatch):
    real = probe._handshake

    def handshake(*where):
        connection = real(*where)
        if transport == "grpc":
            connection.settimeout(0.05)  # an HTTP/1.1 server says nothing first, however long one waits
        return connection

    monkeypatch.setattr(probe, "PROBE_SECONDS", 60.0)
    monkeypatch.setattr(probe, "_handshake", handshake)
    with StandIn(tls=made.server) as server:
        port = server.rest_port if transport == "grpc" else server.port
        with connect(f"localhost:{port}", transport, timeout=60.0, tls=Tls(made.ca)) as client:
            with pytest.raises(NotReachable) as failed:
                client.status("mnist")
            told = "".join(failed.value.lines())
            assert ("use --transport rest" if transport == "grpc" else "other transport's port") in told


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_tls_where_there_is_none(made, transport):
    with StandIn() as server, _client(server, transport, Tls(made.ca)) as client:
        with pytest.raises(NotReachable, match="does not speak TLS") as failed:
            client.status("mnist")
        assert "leave --tls" in failed.value.action


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff\xfe", "the server's"])
def test_a_ca_file_that_is_none_is_refused_by_name(made, tmp_path, content):
    path = tmp_path / "some.pem"
    if content is not None:
        path.write_bytes(made.server.key.read_bytes() if content == "the server's" else content)
    with pytest.raises(UsageError) as caught:
        Tls(path)
    assert "some.pem" in caught.value.lines()[0]


def _smoke(capsys, monkeypatch, tmp_path, *words):
    """`slipway smoke WORDS` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["slipway", "smoke", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_smoke_speaks_tls(made, transport, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("slipway_client.check.load", one_round)
    asked = requests_file(tmp_path)
    with StandIn(tls=made.server) as server:
        port = server.port if transport == "grpc" else server.rest_port
        words = [f"--server=localhost:{port}", f"--transport={transport}", f"--requests={asked}"]
        (tmp_path / "token").write_text("a-token")
        server.behaviour.token = "a-token"  # of a stand-in
        words.append(f"--token-file={tmp_path / 'token'}")
        right = _smoke(
            capsys, monkeypatch, tmp_path, *words, f"--ca-file={made.ca}", "--num-tests=4", "--json"
        )
        assert right[0] == 0
        assert json.loads(right[1])["ok"]
        code, _, err = _smoke(capsys, monkeypatch, tmp_path, *words, "--tls")
        assert (code, "certificate is not accepted" in err) == (3, True)
        named = _smoke(capsys, monkeypatch, tmp_path, *words, f"--ca_file={made.ca}", "--model_name=other")
        assert (named[0], "no model 'other'" in named[2]) == (2, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tls"], "--tls: only with --server"),
        (["--ca-file=x", "--model-name=y"], "--ca, --model-name: only with --server"),
        (["--work-dir=.", "--transport=rest"], "--work-dir, --transport: only with --server"),
        (["--server=h:1", "--requests=.", "--work-dir=."], "exclude each other"),
        (["--server=h:1", "--work-dir=.", "--transport=http"], "expected grpc or rest"),
        (["--server=h:1", "--work-dir=.", "--protocol=v1"], "expected auto, tensorflow, v2"),
        (["--token-file=x", "--protocol=v2"], "--token-file, --protocol: only with --server"),
        (["--server=h:1", "--work-dir=.", "--cert=x"], "give both --cert and --key"),
        (["--server=h", "--work-dir=."], "expected HOST:PORT"),
    ],
)
def test_smoke_refuses_what_means_nothing(words, says, tmp_path, capsys, monkeypatch):
    code, out, err = _smoke(capsys, monkeypatch, tmp_path, *words)
    assert (code, out) == (2, "")
    assert says in err
    assert not (tmp_path / ".slipway").exists()
