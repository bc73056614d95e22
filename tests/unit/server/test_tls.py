"""SSLConfig files: what is taken, what is refused in words, and when another one is taken up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from slipway_client.errors import UsageError
from slipway_server.tls import Tls

from tests.standins.authority import Authority, ssl_config

PAIR = Authority("servers").sign("server")
OTHER = Authority("servers").sign("server")


def refused(file: Path) -> str:
    with pytest.raises(UsageError) as caught:
        Tls(file)
    assert caught.value.where == str(file)
    return " ".join(caught.value.lines())


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]


def test_values_are_pem_or_paths_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Tls(ssl_config(tmp_path / "inline", PAIR))
    (tmp_path / "tls.key").write_bytes(PAIR[0])
    (tmp_path / "tls.crt").write_bytes(PAIR[1])
    named = tmp_path / "named"
    named.write_text(f'server_key: "{tmp_path}/tls.key" server_cert: "{tmp_path}/tls.crt"')
    tls = Tls(named)
    # as tools renew them: one file after the other, and between the two nothing fits
    (tmp_path / "tls.crt").write_bytes(OTHER[1])
    tls.look()
    assert events(capsys) == ["certificates_refused"]
    tls.look()
    assert events(capsys) == []
    (tmp_path / "tls.key").write_bytes(OTHER[0])
    tls.look()
    assert events(capsys) == ["certificates_taken_up"]
    (tmp_path / "tls.key").unlink()
    tls.look()
    assert events(capsys) == ["certificates_refused"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server_key: ", "not a text-format SSLConfig"),
        ("", "server_key is missing"),
        ('server_key: "tls.key"', "server_key is neither PEM nor an absolute path"),
        ('server_key: "/nonexistent/tls.key"', "server_key cannot be read"),
        ('server_key: "-----BEGIN x" server_cert: "-----BEGIN x"', "cannot be used together"),
    ],
)
def test_a_bad_file_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "ssl.config"
    file.write_text(text)
    assert words in refused(file)


def test_key_and_certificate_must_belong_together(tmp_path: Path) -> None:
    assert "KEY_VALUES_MISMATCH" in refused(ssl_config(tmp_path / "f", (PAIR[0], OTHER[1])))


def test_a_key_with_a_password_is_refused_and_not_asked_for(tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(PAIR[0], None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    assert "the key is encrypted" in refused(ssl_config(tmp_path / "f", (locked, PAIR[1])))


def test_clients_certificates_need_an_authority(tmp_path: Path) -> None:
    file = ssl_config(tmp_path / "f", PAIR)
    file.write_text(file.read_text() + "client_verify: true")
    assert "client_verify needs custom_ca" in refused(file)
    file.write_text(file.read_text() + ' custom_ca: "-----BEGIN x"')
    assert "custom_ca holds no certificate" in refused(file)


def test_client_verify_changes_by_a_restart_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority("clients")
    file = ssl_config(tmp_path / "f", PAIR, authority.certificate)
    tls = Tls(file)
    ssl_config(file, PAIR)
    tls.look()
    assert "client_verify has changed, which needs a restart" in capsys.readouterr().err
    assert tls.client_verify
