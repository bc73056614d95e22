"""What the component gives the server is what the server takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slipway_server import command_line, tls, tokens
from slipway_stacks import access, outputs
from slipway_stacks.inputs import Inputs, read

from tests.standins.authority import Authority

IMAGE = "r.example/m@sha256:" + "a" * 64


def asked(**values: str) -> Inputs:
    return read({"image": IMAGE, **values})


def mounted(inputs: Inputs, secrets: dict[str, dict[str, bytes]], root: Path) -> None:
    """Lay the volumes' files where the mounts say, as a kubelet does."""
    places = {mount["name"]: root / mount["mountPath"].lstrip("/") for mount in access.mounts(inputs)}
    notes = access.notes(inputs)
    for volume in access.volumes(inputs):
        folder = places[volume["name"]]
        folder.mkdir(parents=True)
        sources: list[dict[str, Any]] = volume.get("projected", {}).get(
            "sources", [{"secret": volume.get("secret")}]
        )
        for source in sources:
            for item in source.get("secret", {}).get("items", []):
                name = source["secret"].get("name") or source["secret"]["secretName"]
                (folder / item["path"]).write_bytes(secrets[name][item["key"]])
            for item in source.get("downwardAPI", {}).get("items", []):
                (field,) = [note for note in notes if f"['{note}']" in item["fieldRef"]["fieldPath"]]
                (folder / item["path"]).write_text(notes[field])


@pytest.mark.parametrize("clients", ["true", "false"])
def test_the_server_takes_the_files_and_flags_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clients: str
) -> None:
    monkeypatch.setattr(access, "_TLS", f"{tmp_path}{access._TLS}")
    monkeypatch.setattr(access, "_TOKEN", f"{tmp_path}{access._TOKEN}")
    inputs = asked(tlsSecret="a", tlsClients=clients, tokenSecret="b")
    authority = Authority("a CA")
    key, certificate = authority.sign("mnist")
    token = b"0123456789abcdef0123456789abcdef"
    secrets = {
        "a": {"tls.key": key, "tls.crt": certificate, "ca.crt": authority.certificate},
        "b": {"token": token, "another": b"no token"},
    }
    mounted(inputs, secrets, Path("/"))
    flags = command_line.parse(
        ["--rest_api_port=8501", "--model_name=m", "--model_base_path=/m", *access.arguments(inputs)]
    )
    assert flags.health_port == outputs.HEALTH_PORT
    assert flags.rest_ssl_config_file == flags.ssl_config_file
    found = tls.read(Path(flags.ssl_config_file))
    assert (found.key, found.certificate, found.client_verify) == (key, certificate, clients == "true")
    assert found.ca == (authority.certificate if clients == "true" else b"")
    tokens.Tokens(Path(flags.token_file)).check(f"Bearer {token.decode()}")


def test_no_key_and_no_token_is_in_what_is_declared() -> None:
    inputs = asked(tlsSecret="a", tokenSecret="b")
    said = json.dumps([access.notes(inputs), access.volumes(inputs), access.arguments(inputs)])
    assert "BEGIN" not in said
    assert all(mount["readOnly"] for mount in access.mounts(inputs))
    assert len(access.mounts(inputs)) == len(access.volumes(inputs)) == 2


def test_without_secrets_nothing_is_added() -> None:
    inputs = asked()
    found = (access.arguments(inputs), access.notes(inputs), access.volumes(inputs), access.mounts(inputs))
    assert found == ([], {}, [], [])
    assert access.scraped(inputs) == {}
