"""Tokens and client certificates: what is read, what is refused, and who is told what."""

from __future__ import annotations

import pytest
from slipway_client.__main__ import main
from slipway_client.client import wait_available
from slipway_client.connect import connect
from slipway_client.credentials import Tls, Token
from slipway_client.errors import RequestFailed, UsageError

from tests.standins.model_server import Behaviour, StandIn, requests_file

TRANSPORTS = ("grpc", "rest")
SECRET = "eyJhbGciOi.a-secret_~+/=="  # of a stand-in


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    return path


def _address(server, transport):
    return server.address if transport == "grpc" else server.rest


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_token_goes_with_every_request_and_is_read_again_when_it_changes(transport, file):
    server = StandIn(Behaviour(token=SECRET))
    with server, connect(_address(server, transport), transport, token=Token(file)) as client:
        assert client.ready("mnist")
        server.behaviour.token = "another"  # of a stand-in
        with pytest.raises(RequestFailed) as refused:
            client.status("mnist")
        assert refused.value.status == "UNAUTHENTICATED"
        assert "--token_file" in refused.value.action
        assert SECRET not in "".join(refused.value.lines())
        assert "not a token: ***" in refused.value.tail
        other = file.with_name("other")
        other.write_text("another")
        other.replace(file)
        assert client.ready("mnist")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_who_has_no_token_is_not_kept_waiting(transport):
    with (
        StandIn(Behaviour(token=SECRET)) as server,
        connect(_address(server, transport), transport) as client,
        pytest.raises(RequestFailed, match="wants one"),
    ):
        wait_available(client, "mnist", timeout=3600)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"two words", b"a\nb", b"a\x00", b"\xc3\xbc"])
def test_what_is_no_token_is_refused_by_the_files_name(tmp_path, content):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        Token(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("server", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "LOCALHOST:1"])
def test_this_machine_may_be_told_without_tls(file, server):
    with connect(server, token=Token(file)) as client:
        assert client.server == server


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "server", ["10.0.0.1:1", "models.example:1", "[2001:db8::1]:1", "localhost.example:1"]
)
def test_other_machines_are_told_over_tls_or_on_demand(file, server, transport):
    with pytest.raises(UsageError, match="without TLS, for others to read"):
        connect(server, transport, token=Token(file))
    connect(server, transport, token=Token(file), tls=Tls()).close()
    connect(server, transport, token=Token(file, without_tls=True)).close()


def test_a_token_is_never_shown(file):
    token = Token(file)
    with connect("localhost:1", token=token) as client:
        assert SECRET not in f"{token!r} {token} {client.connection!r}"


def test_the_command_takes_the_file_not_the_token(file, tmp_path, capsys):
    asked = str(requests_file(tmp_path))
    with StandIn(Behaviour(token=SECRET)) as server:
        words = [server.address, "--requests", asked, "--num-tests=2"]
        assert main(words) == 1
        assert "--token_file" in capsys.readouterr().err
        assert main([*words, f"--token-file={file}"]) == 0
    assert main(["models.example:1", "--requests", asked, f"--token_file={file}"]) == 2
    assert "--token_without_tls" in capsys.readouterr().err


def test_a_clients_certificate_and_its_key_go_together(tmp_path):
    for one in ({"cert_file": tmp_path / "c.pem"}, {"key_file": tmp_path / "k.pem"}):
        with pytest.raises(UsageError, match="go together"):
            Tls(**one)


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff"])
def test_what_is_no_certificate_is_refused_by_the_files_name(tmp_path, content):
    files = (tmp_path / "c.pem", tmp_path / "k.pem")
    if content is not None:
        for path in files:
            path.write_bytes(content)
    with pytest.raises(UsageError, match=r".") as caught:
        Tls(cert_file=files[0], key_file=files[1])
    assert "c.pem" in caught.value.where
