"""Backend ssh: inventories of every kind are read by Ansible, and machines met for the first time."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from slipway.cli import asking
from slipway.cli.session import Session
from slipway.clients import ansible_inventory, openssh, passwords, ssh
from slipway.clients.ansible_inventory import Machine
from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault, HostError, UsageError
from slipway.core.state import State
from slipway.core.types import Host, Hosts
from slipway.hosts import base
from slipway.hosts.existing import Existing
from slipway.hosts.resolving import hosts_of, record_accepted

from tests.standins.ssh_server import USER, SshServer, serving

KEY, OTHER = (base.ed25519().public for _ in range(2))
YAML = """\
all:
  vars: {ansible_user: admin, domain: example.org}
  children:
    control-plane:
      hosts:
        cp: {ansible_host: "cp.{{ domain }}", ansible_port: 2222}
    worker:
      vars: {ansible_ssh_user: deploy}
      hosts:
        worker-[1:2]:
    docker: {hosts: {cp: {}}}
    databases: {hosts: {db: {ansible_host: "{{ nowhere }}"}}}
"""
INI = """\
cp ansible_host=192.0.2.10 ansible_port=2222
[control_plane]
cp
[worker]
worker-[1:2] ansible_ssh_host=192.0.2.11
[all:vars]
ansible_user=admin
"""
SCRIPT = """\
#!/bin/sh
echo '{"control_plane": ["cp"], "_meta": {"hostvars": {"cp": {"ansible_host": "192.0.2.10"}}}}'
"""
CONSTRUCTED = """\
plugin: ansible.builtin.constructed
groups:
  control_plane: kind == "head"
  worker: kind == "hand"
compose: {ansible_host: place}
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def yaml_with_ranges(folder: Path) -> Path:
    return write(folder / "i.yml", YAML)


def ini(folder: Path) -> Path:
    return write(folder / "hosts", INI)


def script(folder: Path) -> Path:
    path = write(folder / "machines.sh", SCRIPT)
    path.chmod(0o755)
    return path


def folder_with_group_vars_and_a_plugin(folder: Path) -> Path:
    write(
        folder / "1-hosts.yml",
        "all: {hosts: {cp: {kind: head, place: 192.0.2.10}, w: {kind: hand, place: w.lan}}}",
    )
    write(folder / "2-groups.yml", CONSTRUCTED)
    write(folder / "group_vars/worker.yml", "ansible_user: deploy\ncni_flannel_args: [--iface=eth1]\n")
    write(folder / "host_vars/cp.yml", "ansible_port: 2222\n")
    return folder


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            yaml_with_ranges,
            [
                ("cp", "cp.example.org", 2222, "admin", ("control_plane", "docker")),
                ("worker-1", "worker-1", None, "deploy", ("worker",)),
                ("worker-2", "worker-2", None, "deploy", ("worker",)),
            ],
        ),
        (
            ini,
            [
                ("cp", "192.0.2.10", 2222, "admin", ("control_plane",)),
                ("worker-1", "192.0.2.11", None, "admin", ("worker",)),
                ("worker-2", "192.0.2.11", None, "admin", ("worker",)),
            ],
        ),
        (script, [("cp", "192.0.2.10", None, None, ("control_plane",))]),
        (
            folder_with_group_vars_and_a_plugin,
            [
                ("cp", "192.0.2.10", 2222, None, ("control_plane",)),
                ("w", "w.lan", None, "deploy", ("worker",)),
            ],
        ),
    ],
)
def test_ansible_reads_the_inventory(tmp_path: Path, make: object, expected: list[object]) -> None:
    assert callable(make)
    found = ansible_inventory.machines(make(tmp_path))
    assert [(each.name, each.host, each.port, each.user, each.groups) for each in found] == expected


EC2 = """\
plugin: amazon.aws.aws_ec2
regions: [eu-central-1]
hostnames: [tag:Name]
groups:
  control_plane: tags.role == "head"
  worker: tags.role == "hand"
compose:
  ansible_host: private_ip_address
  ansible_user: "'admin'"
"""


def test_a_clouds_plugin_finds_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    for name, value in (
        ("ACCESS_KEY_ID", "x"),
        ("SECRET_ACCESS_KEY", "x"),
        ("DEFAULT_REGION", "eu-central-1"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        ec2 = boto3.client("ec2")
        image = ec2.describe_images()["Images"][0]["ImageId"]
        for name, role in (("cp", "head"), ("w", "hand"), ("database", "none")):
            tags = [{"Key": "Name", "Value": name}, {"Key": "role", "Value": role}]
            specification = [{"ResourceType": "instance", "Tags": tags}]
            ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=specification)
        found = ansible_inventory.machines(write(tmp_path / "aws_ec2.yml", EC2))
    finally:
        server.stop()
    assert {(each.name, each.user, each.groups) for each in found} == {
        ("cp", "admin", ("control_plane",)),
        ("w", "admin", ("worker",)),
    }
    assert all(each.host.startswith("10.") for each in found)


def test_the_owners_own_configuration_counts(tmp_path: Path) -> None:
    inventory = write(tmp_path / "i.yml", "control_plane: {hosts: {cp: {}}}")
    write(
        tmp_path / "ansible.cfg",
        "[defaults]\nremote_user = joe\ntimeout = 99\n[ssh_connection]\nssh_args = -C -J b\n",
    )
    (machine,) = ansible_inventory.machines(inventory)
    assert (machine.user, machine.ssh_args) == ("joe", "-C -J b")
    assert machine.configured == {"DEFAULT_TIMEOUT"}
    (tmp_path / "ansible.cfg").chmod(0o666)
    ansible_inventory.machines.cache_clear()
    with pytest.raises(EnvironmentFault, match=r"Ansible's configuration .* is not used"):
        ansible_inventory.machines(inventory)


def test_what_ansible_cannot_make_sense_of_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the inventory"):
        ansible_inventory.machines(write(tmp_path / "i.yml", "all: [unclosed"))
    text = "control_plane: {hosts: {a: {ansible_port: many}, b: {ansible_host: '{{ nowhere }}'}}}"
    with pytest.raises(UsageError, match=r"cannot be used: a: .*'many'") as refused:
        ansible_inventory.machines(write(tmp_path / "j.yml", text))
    assert "b: " in refused.value.tail and "'nowhere' is undefined" in refused.value.tail


def cp(monkeypatch: pytest.MonkeyPatch, **more: object) -> None:
    """Let the inventory have one machine."""
    given = {"ssh_common_args": "-F none", "port": 2222, **more}
    machine = Machine("cp", ("control_plane",), "192.0.2.10", **given)  # type: ignore[arg-type]
    monkeypatch.setattr(ansible_inventory, "machines", lambda _inventory: (machine,))


def test_a_pinned_key_is_the_inventorys_or_an_accepted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, path = State(tmp_path / ".slipway"), tmp_path / "i.yml"
    cp(monkeypatch)
    (host,) = hosts_of(path)
    assert (host.host_key, host.options) == ("", ("-o", "StrictHostKeyChecking=yes", "-F", "none"))
    record_accepted(state, [Host("cp", "192.0.2.10", "root", OTHER, (), 2222)])
    record_accepted(
        state, [Host("cp", "192.0.2.10", "root", KEY, (), 2222), Host("w", "w.lan", "x", OTHER, ())]
    )
    assert state.accepted_keys.read_text() == f"[192.0.2.10]:2222 {KEY}\nw.lan {OTHER}\n"
    assert hosts_of(path, state.accepted_keys)[0].host_key == KEY
    cp(monkeypatch, host_key=f"{OTHER} a comment")
    assert hosts_of(path, state.accepted_keys)[0].host_key == OTHER


def test_what_known_hosts_revokes_is_refused_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = write(tmp_path / "known_hosts", f"not a line\n@revoked [192.0.2.10]:* {OTHER}\n")
    words = "-F none -o UserKnownHostsFile=known_hosts"
    cp(monkeypatch, host_key=OTHER, ssh_common_args=words)
    with pytest.raises(HostError, match=f"{known}:2 revokes"):
        hosts_of(tmp_path / "i.yml")


def test_whether_keys_are_checked_is_the_owners_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for more in ({"host_key_checking": False}, {"ssh_args": "-o StrictHostKeyChecking=no"}):
        cp(monkeypatch, **more)
        assert not openssh.checks_keys(hosts_of(tmp_path / "i.yml")[0])
    cp(monkeypatch, host_key_checking=False, host_key=KEY)
    assert openssh.checks_keys(hosts_of(tmp_path / "i.yml")[0])


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cp(monkeypatch, private_key_file="id")
    with pytest.raises(UsageError, match=f"{tmp_path}/id does not exist"):
        hosts_of(tmp_path / "i.yml")


def test_words_that_openssh_does_not_understand_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cp(monkeypatch, ssh_extra_args="-o NoSuchOption=yes")
    with pytest.raises(UsageError, match="does not understand") as refused:
        hosts_of(tmp_path / "i.yml")
    assert "nosuchoption" in refused.value.tail.lower()


def test_down_forgets_and_touches_nothing_else(tmp_path: Path) -> None:
    ctx = Context(State(tmp_path), tmp_path / "run", tmp_path)
    (tmp_path / "hosts").mkdir()
    write(tmp_path / "hosts/hosts.json", "{}")
    write(tmp_path / "hosts/other", "")
    write(ctx.state.accepted_keys, "")
    assert Existing().down(ctx) == [
        f"file {tmp_path / 'hosts/hosts.json'}",
        f"file {ctx.state.accepted_keys}",
    ]
    assert Existing().down(ctx) == []
    assert (tmp_path / "hosts/other").exists()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    folder = tmp_path_factory.mktemp("met")
    base.key_pair(folder, "id")
    with serving(folder / "server", f"AuthorizedKeysFile {folder}/id.pub") as made:
        yield made


@pytest.fixture
def session(tmp_path: Path, server: SshServer) -> Session:
    """A project with an inventory of one machine that nobody has met."""
    machine = {
        "ansible_host": "127.0.0.1",
        "ansible_port": server.port,
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(server.log.parents[1] / "id"),
        "ansible_ssh_common_args": "-F none -o UserKnownHostsFile=known_hosts",
    }
    write(tmp_path / "inventory.yml", json.dumps({"control_plane": {"hosts": {"cp": machine}}}))
    write(tmp_path / "slipway.yaml", "hosts: {backend: ssh, inventory: inventory.yml}\n")
    return Session(tmp_path / "slipway.yaml", None)


def test_a_machine_nobody_has_met_is_refused_until_somebody_says_its_key_is_right(
    session: Session, server: SshServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def met() -> str:
        (host,) = hosts_of(session.state.root.parent / "inventory.yml", session.state.accepted_keys)
        return host.host_key

    asking.meet(session, accept=False)  # no terminal: nothing is asked, and nothing taken
    with (
        pytest.raises(ssh.HostKeyUnknown) as refused,
        ssh.connect(hosts_of(session.state.root.parent / "inventory.yml")[0]),
    ):
        pass
    assert openssh.fingerprint(server.host_key) in refused.value.tail
    assert "--accept-new-keys" in refused.value.action
    monkeypatch.setattr(asking, "there", lambda: True)
    monkeypatch.setattr(typer, "confirm", lambda *_arguments, **_options: False)
    monkeypatch.setattr(asking, "need_root", lambda _host: None)
    asking.meet(session, accept=False)
    assert met() == ""
    asking.meet(session, accept=True)
    assert openssh.fingerprint(server.host_key) in capsys.readouterr().err
    assert met() == server.host_key
    assert session.state.accepted_keys.stat().st_mode & 0o777 == 0o600


def test_what_a_machine_wants_is_asked_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    tried: list[tuple[str, ...]] = []

    def say(question: str) -> str:
        asked.append(question)
        return "secret"

    def refuse(host: Host) -> None:
        tried.append(host.asks)
        if "login" not in host.asks:
            raise ssh.LoginRefused("x refuses the login: Permission denied (publickey,password).")

    monkeypatch.setattr(passwords, "_told", {})
    monkeypatch.setattr(asking, "there", lambda: True)
    monkeypatch.setattr(getpass, "getpass", say)
    monkeypatch.setattr(asking, "need_root", refuse)
    asking.meet(session, accept=True)
    asking.meet(session, accept=True)
    assert len(asked) == 1 and asked[0].startswith(f"SSH password of {USER}@cp")
    assert tried == [(), (), ("login",), ("login",)]
    (host,) = hosts_of(session.state.root.parent / "inventory.yml")
    monkeypatch.setattr(passwords, "_told", {})
    asking.ask_again(Hosts("ssh", (Host(**{**host.__dict__, "asks": ("login",)}),)))
    assert len(asked) == 2 and passwords.told() == ("login",)


def test_a_shell_goes_where_the_inventory_leads(session: Session, server: SshServer) -> None:
    (host,) = hosts_of(session.state.root.parent / "inventory.yml")
    base.record(session.state, Hosts("ssh", (Host(**{**host.__dict__, "host_key": server.host_key}),)))
    kept = session.state.kept(Hosts)
    assert kept is not None
    argv = openssh.shell(kept.hosts[0], session.state.known_hosts)
    done = subprocess.run([*argv, "echo $((40 + 2))"], capture_output=True, text=True, check=False)
    assert done.stdout == "42\n", done.stderr
    here = Host("here", "127.0.0.1", USER, "", (), connection="local")
    argv = openssh.shell(here, session.state.known_hosts)
    assert subprocess.run([*argv, "echo", "$((40 + 2))"], capture_output=True, check=True).stdout == b"42\n"
    assert os.access(argv[0], os.X_OK) or argv[0] == "sh"
