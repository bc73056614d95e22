from __future__ import annotations

from pathlib import Path

import pytest
from slipway.core.context import Context
from slipway.core.errors import HostError, UsageError
from slipway.core.state import State
from slipway.hosts import base
from slipway.hosts.existing import Existing, Machine, read_inventory, resolve

KEY = base.ed25519().public
OTHER = base.ed25519().public
INVENTORY = """\
all:
  vars: {ansible_user: admin}
  children:
    control-plane:
      hosts:
        cp: {ansible_host: 192.0.2.10, ansible_port: 2222}
    worker:
      vars: {ansible_user: deploy}
      hosts:
        worker-[1:2]:
    docker: {hosts: {cp: {}}}
    databases: {hosts: {db: {}}}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_ansible_reads_the_inventory(tmp_path: Path) -> None:
    machines = {machine.name: machine for machine in read_inventory(write(tmp_path / "i.yml", INVENTORY))}
    assert sorted(machines) == ["cp", "worker-1", "worker-2"]
    assert machines["cp"].groups == ("control_plane", "docker")
    assert machines["cp"].variable("ansible_user") == "admin"
    assert machines["worker-2"].variable("ansible_user") == "deploy"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("all: {hosts: {a: {}}}", "no host is in one of the groups"),
        ("all: {children: {worker: {hosts: {w: {}}}}}", "none in control_plane"),
        ("all: {children: {control_plane: {hosts: {c: {ansible_port: many}}}}}", "ansible_port is 'many'"),
        ("all: {children: {control_plane: {hosts: {c: {ansible_host: '{{ x }}'}}}}}", "is a template"),
        ("all: [unclosed", "cannot read the inventory"),
    ],
)
def test_a_bad_inventory_is_refused_with_the_form(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        read_inventory(write(tmp_path / "i.yml", text))
    assert "control_plane: {hosts:" in refused.value.action
    assert refused.value.exit_code == 2


def test_keys_come_from_the_inventory_then_known_hosts(tmp_path: Path) -> None:
    known = write(tmp_path / "known_hosts", f"[192.0.2.10]:2222 {KEY}\n192.0.2.11 {OTHER}\n")
    machines = [
        Machine("cp", ("control_plane",), {"ansible_host": "192.0.2.10", "ansible_port": 2222}),
        Machine("w", ("worker",), {"ansible_host": "192.0.2.11", "slipway_host_key": f"{KEY} comment"}),
    ]
    identity, hosts = resolve(machines, tmp_path / "i.yml", known)
    assert identity is None
    assert [(host.address, host.port, host.user, host.host_key) for host in hosts] == [
        ("192.0.2.10", 2222, "root", KEY),
        ("192.0.2.11", 22, "root", KEY),
    ]


def test_unknown_keys_are_refused_with_the_command_that_records_them(tmp_path: Path) -> None:
    machines = [Machine("cp", ("control_plane",), {"ansible_host": "192.0.2.10", "ansible_port": "2222"})]
    with pytest.raises(HostError, match="not known") as refused:
        resolve(machines, tmp_path / "i.yml", tmp_path / "none")
    assert "ssh-keyscan -t ed25519 -p 2222 192.0.2.10" in refused.value.tail


def test_a_known_hosts_file_of_the_inventory_counts(tmp_path: Path) -> None:
    write(tmp_path / "mine", f"192.0.2.10 {KEY}\n")
    variables = {"ansible_host": "192.0.2.10", "ansible_ssh_common_args": "-C -o UserKnownHostsFile=mine"}
    _, hosts = resolve([Machine("cp", ("control_plane",), variables)], tmp_path / "i.yml", tmp_path / "none")
    assert hosts[0].host_key == KEY


def test_what_known_hosts_revokes_is_refused_and_told(tmp_path: Path) -> None:
    machines = [Machine("cp", ("control_plane",), {"ansible_host": "192.0.2.10"})]
    text = f"not a line\n@cert-authority * {OTHER}\n192.0.2.10 {KEY}\n"
    known = write(tmp_path / "known_hosts", text)
    _, hosts = resolve(machines, tmp_path / "i.yml", known)
    assert hosts[0].host_key == KEY
    write(known, f"{text}@revoked * {KEY}\n")
    with pytest.raises(HostError, match="not known") as refused:
        resolve(machines, tmp_path / "i.yml", known)
    assert f"revoked in {known}:4" in refused.value.tail
    assert "certificates of hosts are not understood" in refused.value.tail
    pinned = [
        Machine("cp", ("control_plane",), {"ansible_host": "192.0.2.10", "slipway_host_key": f"{KEY} me"})
    ]
    with pytest.raises(HostError, match=f"{known}:4 revokes"):
        resolve(pinned, tmp_path / "i.yml", known)


@pytest.mark.parametrize(
    "words",
    [
        "-J bastion",
        "-Jbastion",
        "-o ProxyJump=bastion",
        "-oProxyJump=bastion",
        "-o 'proxyjump bastion'",
        "-C -o 'ProxyCommand=ssh -W %h:%p bastion'",
    ],
)
@pytest.mark.parametrize("name", ["ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args"])
def test_a_jump_host_is_refused_in_words(tmp_path: Path, words: str, name: str) -> None:
    machines = [Machine("cp", ("control_plane",), {"slipway_host_key": KEY, name: words})]
    with pytest.raises(UsageError, match=r"cp is reached through another machine .*bastion") as refused:
        resolve(machines, tmp_path / "i.yml", tmp_path / "none")
    assert "jump host" in refused.value.action
    assert refused.value.where == str(tmp_path / "i.yml")


def test_no_jump_is_none(tmp_path: Path) -> None:
    variables = {"slipway_host_key": KEY, "ansible_ssh_common_args": "-o ProxyJump=none -o Compression=yes"}
    assert resolve([Machine("cp", ("control_plane",), variables)], tmp_path / "i.yml", tmp_path / "none")


def test_one_key_file_for_all(tmp_path: Path) -> None:
    variables = {"slipway_host_key": KEY, "ansible_ssh_private_key_file": "id"}
    machines = [
        Machine("cp", ("control_plane",), variables),
        Machine("w", ("worker",), {"slipway_host_key": KEY}),
    ]
    with pytest.raises(UsageError, match="2 different keys"):
        resolve(machines, tmp_path / "i.yml", tmp_path / "none")
    with pytest.raises(UsageError, match="does not exist"):
        resolve(machines[:1], tmp_path / "i.yml", tmp_path / "none")
    write(tmp_path / "id", "x")
    assert resolve(machines[:1], tmp_path / "i.yml", tmp_path / "none")[0] == tmp_path / "id"


def test_down_forgets_and_touches_nothing_else(tmp_path: Path) -> None:
    ctx = Context(State(tmp_path), tmp_path / "run", tmp_path)
    (tmp_path / "hosts").mkdir()
    write(tmp_path / "hosts/hosts.json", "{}")
    write(tmp_path / "hosts/other", "")
    assert Existing().down(ctx) == [f"file {tmp_path / 'hosts/hosts.json'}"]
    assert Existing().down(ctx) == []
    assert (tmp_path / "hosts/other").exists()
