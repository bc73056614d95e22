"""User-data for machines made otherwise: what is in it, and that the machine is known by it afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway.cli import app
from slipway.clients import known_hosts
from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.state import State
from slipway.hosts.cloud_init import user_data


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(State(tmp_path / ".slipway"), tmp_path, tmp_path)


def test_a_machine_gets_a_login_sudo_python_and_the_key_it_will_be_known_by(ctx: Context) -> None:
    made = user_data(ctx, "cp")
    said = yaml.safe_load(made.text)
    (user,) = said["users"]
    assert (user["name"], user["sudo"], user["lock_passwd"]) == ("slipway", "ALL=(ALL) NOPASSWD:ALL", True)
    login = made.identity.with_suffix(".pub").read_text().strip()
    assert user["ssh_authorized_keys"] == [login]
    assert {"sudo", "python3"} <= set(said["packages"])
    assert said["ssh_pwauth"] is False and said["disable_root"] is True
    assert said["ssh_deletekeys"] is True  # no other key is shown
    assert said["ssh_keys"]["ed25519_public"] == made.host_key
    assert "OPENSSH PRIVATE KEY" in said["ssh_keys"]["ed25519_private"]
    assert known_hosts.public_key(made.host_key) is not None


def test_the_same_name_has_the_same_key_and_another_another(ctx: Context) -> None:
    assert user_data(ctx, "cp") == user_data(ctx, "cp")
    assert user_data(ctx, "cp").host_key != user_data(ctx, "worker-1").host_key


@pytest.mark.parametrize("name", ["", "login", "CP", "../cp", "-cp", "cp.pub", "a" * 64])
def test_what_is_no_name_makes_no_file(name: str, ctx: Context) -> None:
    with pytest.raises(UsageError, match="no name of a machine"):
        user_data(ctx, name)
    assert not ctx.state.machines.exists()


def test_stdout_has_the_user_data_alone_and_stderr_the_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def typed(*words: str) -> Any:
        monkeypatch.setattr("sys.argv", ["slipway", "hosts", "cloud-init", "cp", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert ended.value.code == 0
        return capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    plain = typed()
    assert plain.out.startswith("#cloud-config\n")
    document = json.loads(typed("--json").out)
    assert document["user_data"] == plain.out
    assert f"slipway_host_key: {document['host_key']}" in plain.err
    assert "PRIVATE" not in plain.err
