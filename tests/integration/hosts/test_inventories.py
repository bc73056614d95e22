"""Inventories as people have them: each machine is reached alike by slipway's own SSH and by Ansible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from slipway.clients import ansible_inventory, ansible_play, openssh, ssh, written_inventory
from slipway.core.types import Host, Hosts
from slipway.hosts import base
from slipway.hosts.resolving import hosts_of

from tests.standins.ssh_server import USER, SshServer, serving, sign

# Each is a machine of one inventory: what leads to it, and the servers on the way, the last of them itself
WAYS: dict[str, tuple[str, ...]] = {
    "pinned": ("one",),
    "vagrant-1": ("one",),
    "vagrant-2": ("two",),
    "alias": ("one",),
    "jump": ("bastion", "one"),
    "jump-by-words": ("bastion", "one"),
    "two-hops": ("bastion", "inner", "one"),
    "proxy-command": ("bastion", "two"),
    "certified-login": ("certified",),
    "certified-host": ("certified",),
    "here": (),
}


@dataclass(frozen=True)
class Yard:
    """Servers by name, and the folder with the inventory, OpenSSH's configuration and known_hosts."""

    folder: Path
    servers: dict[str, SshServer]
    hosts: dict[str, Host]

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    for name in ("ada", "bob", "guest", "authority", "host-authority"):
        base.key_pair(folder, name)
    sign(folder / "authority", folder / "guest.pub", "-n", USER)
    with ExitStack() as stack:

        def server(name: str, lines: str, certified_by: Path | None = None) -> SshServer:
            return stack.enter_context(serving(folder / f"server-{name}", lines, certified_by))

        servers = {
            "bastion": server("bastion", f"AuthorizedKeysFile {folder}/ada.pub"),
            "inner": server("inner", f"AuthorizedKeysFile {folder}/ada.pub"),
            "one": server("one", f"AuthorizedKeysFile {folder}/ada.pub"),
            "two": server("two", f"AuthorizedKeysFile {folder}/bob.pub"),
            "certified": server(
                "certified", f"TrustedUserCAKeys {folder}/authority.pub", folder / "host-authority"
            ),
        }
        authority = (folder / "host-authority.pub").read_text().strip()
        known = [servers[name].known_hosts_line for name in ("bastion", "inner", "one", "two")]
        (folder / "known_hosts").write_text(
            "\n".join(["not a line", *known, f"@cert-authority [127.0.0.1]:* {authority}", ""])
        )
        (folder / "ssh_config").write_text(configuration(folder, servers))
        (folder / "inventory.yml").write_text(yaml.safe_dump(inventory(folder, servers)))
        found = hosts_of(folder / "inventory.yml")
        yield Yard(folder, servers, {host.name: host for host in found})


def configuration(folder: Path, servers: dict[str, SshServer]) -> str:
    """~/.ssh/config, as it would be."""
    at = {name: f"  HostName 127.0.0.1\n  Port {server.port}\n" for name, server in servers.items()}
    return f"""\
Host bastion
{at["bastion"]}
Host inner
{at["inner"]}
Host one-by-alias
{at["one"]}
Host behind-bastion
{at["one"]}  ProxyJump bastion
Host behind-both
{at["one"]}  ProxyJump bastion,inner
Host certified
{at["certified"]}  IdentityFile {folder}/guest
  CertificateFile {folder}/guest-cert.pub
Host *
  User {USER}
  IdentityFile {folder}/ada
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
"""


def inventory(folder: Path, servers: dict[str, SshServer]) -> dict[str, object]:
    def at(name: str, **more: object) -> dict[str, object]:
        return {"ansible_host": "127.0.0.1", "ansible_port": servers[name].port, **more}

    machines: dict[str, dict[str, object]] = {
        "pinned": at(
            "one",
            slipway_host_key=servers["one"].host_key,
            ansible_ssh_common_args="-F ssh_config -o UserKnownHostsFile=/dev/null",
        ),
        "vagrant-1": at("one", ansible_ssh_private_key_file="ada", ansible_user=USER),
        "vagrant-2": at("two", ansible_ssh_private_key_file="{{ owner }}", owner="bob"),
        "alias": {"ansible_host": "one-by-alias"},
        "jump": {"ansible_host": "behind-bastion"},
        "jump-by-words": at("one", ansible_ssh_extra_args="-J bastion"),
        "two-hops": {"ansible_host": "behind-both"},
        "proxy-command": at(
            "two",
            ansible_ssh_private_key_file="bob",
            ansible_ssh_extra_args=f"-o 'ProxyCommand=ssh -F {folder}/ssh_config -W %h:%p bastion'",
        ),
        "certified-login": {"ansible_host": "certified"},
        "certified-host": {"ansible_host": "certified"},
        "here": {"ansible_connection": "local"},
    }
    workers: dict[str, object] = {name: {} for name in machines if name != "pinned"}
    return {
        "all": {
            "hosts": {**machines, "database": {"ansible_host": "192.0.2.1"}},
            "vars": {
                "ansible_ssh_common_args": "-F ssh_config",
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            },
            "children": {"control_plane": {"hosts": {"pinned": {}}}, "worker": {"hosts": workers}},
        }
    }


@pytest.mark.parametrize("name", WAYS)
def test_slipways_own_ssh_goes_the_way(yard: Yard, name: str) -> None:
    before = {each: server.logins() for each, server in yard.servers.items()}
    with ssh.connect(yard.hosts[name]) as connection:
        assert connection.run(["echo", "two  words"], become=False).stdout == "two  words\n"
    way = {each for each, server in yard.servers.items() if server.logins() > before[each]}
    assert way == set(WAYS[name])


def test_ansible_goes_the_same_ways_and_to_no_other_machine(yard: Yard, tmp_path: Path) -> None:
    hosts = Hosts("ssh", tuple(yard.hosts.values()), yard.inventory)
    known = tmp_path / "known_hosts"
    known.write_text(f"{openssh.known_hosts_line(yard.hosts['pinned'])}\n")
    machines = ansible_inventory.machines(yard.inventory)
    ours = tmp_path / "ours.yml"
    ours.write_text(written_inventory.addition(hosts, machines, known, {"told": "by slipway"}, {}))
    book = tmp_path / "book.yml"
    book.write_text(
        "- hosts: all\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.command: 'true'\n"
        "    - ansible.builtin.assert: {that: [told == 'by slipway', ansible_timeout == 60]}\n"
    )
    played = ansible_play.play(
        book,
        [ours, yard.inventory],
        tmp_path / "log",
        limit=written_inventory.GROUP,
        extra=written_inventory.OVER_THE_USERS,
        environment=ansible_inventory.environment(yard.inventory),
    )
    assert set(played.hosts) == set(WAYS)


def test_a_tunnel_leads_through_the_jump(yard: Yard) -> None:
    with (
        ssh.connect(yard.hosts["two-hops"]) as connection,
        connection.tunnel("127.0.0.1", yard.servers["two"].port) as (address, port),
    ):
        known = Host("two", address, USER, yard.servers["two"].host_key, (), port, yard.folder / "bob")
        with ssh.connect(known) as through:
            assert through.run(["true"], become=False).returncode == 0


def test_a_jump_host_is_refused_in_words(yard: Yard) -> None:
    """One whose key nobody has recorded: the keys of every hop are checked, and nothing goes past it."""
    known = "\n".join(
        line
        for line in (yard.folder / "known_hosts").read_text().splitlines()
        if str(yard.servers["inner"].port) not in line
    )
    (yard.folder / "fewer").write_text(f"{known}\n".replace("[127.0.0.1]:*", "elsewhere"))
    text = (
        (yard.folder / "ssh_config").read_text().replace(f"{yard.folder}/known_hosts", f"{yard.folder}/fewer")
    )
    (yard.folder / "ssh_config_of_fewer").write_text(text)
    host = replace(yard.hosts["two-hops"], options=("-F", str(yard.folder / "ssh_config_of_fewer")))
    before = yard.servers["one"].logins()
    with pytest.raises(ssh.HostKeyRejected, match=r"the way to 127\.0\.0\.1") as refused, ssh.connect(host):
        pass
    assert "log in there once by hand" in refused.value.action
    assert yard.servers["one"].logins() == before


def test_a_daemon_left_behind_does_not_hold_a_command(yard: Yard) -> None:
    """OpenSSH would wait for it: it holds the output open."""
    said: list[str] = []
    with ssh.connect(yard.hosts["pinned"]) as connection:
        text = "sleep 300 & echo $!; seq 20000; echo last >&2; exit 3"
        done = connection.run(["sh", "-c", text], check=False, become=False, on_line=said.append)
        lives = connection.run(["kill", done.stdout.split()[0]], check=False, become=False)
    assert lives.returncode == 0, "it was still there"
    assert (done.returncode, done.stderr) == (3, "last\n")
    assert done.stdout.split()[1:] == [str(number) for number in range(1, 20001)]
    assert len(said) == 20002


def test_a_revoked_key_is_refused(yard: Yard) -> None:
    known = yard.folder / "revoking"
    text = (yard.folder / "known_hosts").read_text()
    known.write_text(f"{text}@revoked * {yard.servers['one'].host_key}\n")
    alias = yard.hosts["alias"]
    words = ("-o", f"UserKnownHostsFile={known}", *alias.options)
    with pytest.raises(ssh.HostKeyRejected, match="revoked"), ssh.connect(replace(alias, options=words)):
        pass
