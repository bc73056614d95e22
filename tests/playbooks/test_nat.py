"""A cluster on hosts whose first card has the same address on each, as VirtualBox gives them, and forwarded ports."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from slipway.clients import ansible_play, ssh, written_inventory
from slipway.clients.kubectl import Kubectl
from slipway.core.context import Context
from slipway.core.errors import ProvisionError
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Hosts
from slipway.hosts import base
from slipway.hosts.nspawn.labs import lab_name
from slipway.hosts.stage import take_down
from slipway.pipeline import HOSTS
from slipway.provision.stage import Provision

from tests.lab_traces import traces

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SETTINGS = Settings.model_validate({"hosts": {"workers": 1}})
# A card with VirtualBox's address, which the default route leads through, and to nowhere
NAT = (
    "ip link add nat0 type veth peer name nat1 && ip link set nat1 up && ip link set nat0 up "
    "&& ip address add 10.0.2.15/24 dev nat0 && ip route replace default via 10.0.2.2 dev nat0"
)


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def forwarded(address: str) -> Iterator[int]:
    """A port of this machine that leads to a host's SSH."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):  # the server is closed at the end
                while True:
                    near, _ = server.accept()
                    far = socket.create_connection((address, 22), 20)
                    for ends in ((near, far), (far, near)):
                        threading.Thread(target=pump, args=ends, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Lab:
    """made: the hosts as they are. seen: as their owner sees them, each behind a port of this machine."""

    ctx: Context
    made: Hosts
    seen: Hosts

    def on(self, name: str, *argv: str) -> str:
        (host,) = [host for host in self.made.hosts if host.name == name]
        with ssh.connect(host) as connection:
            return connection.run(list(argv), timeout=60).stdout

    def address(self, name: str) -> str:
        return next(host.address for host in self.made.hosts if host.name == name)

    def preflight(self, folder: Path) -> str:
        """What preflight.yml says of these hosts, where the programs would come from this folder."""
        for name in ("kubelet", "kubeadm", "kubectl", "password"):
            (folder / name).touch()
        variables = {
            "kubernetes_node_source": "files",
            "kubernetes_node_binaries": str(folder),
            "kubernetes_node_eviction_hard": {"nodefs.available": "0%", "imagefs.available": "0%"},
            "registry_password_file": str(folder / "password"),
            "registry_ca_file": str(folder / "ca.crt"),
        }
        text = written_inventory.inventory(self.seen, self.ctx.state.known_hosts, variables, {})
        (folder / "inventory.yml").write_text(text)
        log = folder / "log"
        with suppress(ProvisionError):
            ansible_play.play(ROOT / "playbooks/preflight.yml", folder / "inventory.yml", log)
        return " ".join(log.read_text().split())


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    state = State(tmp_path_factory.mktemp("nat") / ".slipway")
    ctx = Context(state, state.new_run(), ROOT)
    try:
        with ExitStack() as stack:
            made = HOSTS.run(ctx, SETTINGS).value
            ports = {host.name: stack.enter_context(forwarded(host.address)) for host in made.hosts}
            behind = tuple(replace(host, address="127.0.0.1", port=ports[host.name]) for host in made.hosts)
            lab = Lab(ctx, made, replace(made, hosts=behind))
            for host in made.hosts:
                lab.on(host.name, "sh", "-c", NAT)
            base.record(ctx.state, lab.seen)
            yield lab
    finally:
        take_down(ctx)
        assert traces(lab_name(ctx.state.root)) == []


def test_preflight_finds_nothing_wrong(lab: Lab, tmp_path: Path) -> None:
    assert "10.0.2.15" in lab.on("worker-1", "ip", "-4", "route", "get", "8.8.8.8")
    said = lab.preflight(tmp_path)
    assert "failed=0" in said and "failed=1" not in said, said[-3000:]
    assert "Try the ports between hosts" in said


def test_a_second_network_that_all_are_in_is_for_people_to_choose(lab: Lab, tmp_path: Path) -> None:
    for number, host in enumerate(lab.made.hosts, 1):
        lab.on(host.name, "ip", "address", "add", f"10.9.0.{number}/24", "dev", "nat0")
    try:
        said = lab.preflight(tmp_path)
    finally:
        for number, host in enumerate(lab.made.hosts, 1):
            lab.on(host.name, "ip", "address", "delete", f"10.9.0.{number}/24", "dev", "nat0")
    assert "which network do hosts use among themselves, 10.77." in said
    assert "or 10.9.0.0/24 (10.9.0.1)? set kubernetes_node_address for each host in the inventory" in said


def test_a_port_that_is_closed_between_hosts_is_told_before_anything_changes(
    lab: Lab, tmp_path: Path
) -> None:
    # what a firewall between them does to a packet
    lab.on("worker-1", "ip", "route", "add", "blackhole", lab.address("cp"))
    try:
        said = lab.preflight(tmp_path)
    finally:
        lab.on("worker-1", "ip", "route", "delete", "blackhole", lab.address("cp"))
    assert f"kubernetes_node: worker-1 does not reach 6443/tcp of cp ({lab.address('cp')}):" in said
    assert "worker-1 does not reach 5001/tcp of cp" in said


def test_the_cluster_follows_the_network_that_its_nodes_share(lab: Lab) -> None:
    private = {host.name: host.address for host in lab.made.hosts}
    cluster = Provision().run(lab.ctx, SETTINGS, lab.seen).value
    lab.ctx.state.keep(cluster)
    assert {node.name: node.address for node in cluster.nodes} == private
    assert cluster.api == f"https://{private['cp']}:6443", "which no forwarded port would lead to"
    assert cluster.registry is not None and cluster.registry.address == f"{private['cp']}:5000"
    for node in Kubectl.of(cluster).get("nodes")["items"]:
        about = node["metadata"]
        assert about["annotations"]["flannel.alpha.coreos.com/public-ip"] == private[about["name"]]
        (ready,) = [each for each in node["status"]["conditions"] if each["type"] == "Ready"]
        assert ready["status"] == "True", ready
    assert Provision().run(lab.ctx, SETTINGS, lab.seen).changed == 0


def test_a_name_comes_into_the_certificate_of_a_running_api_server(lab: Lab) -> None:
    asked = {"control_plane_names": ["api.example.org"]}
    for changes in (True, False):
        log = lab.ctx.evidence("names.log")
        played = ansible_play.play(ROOT / "playbooks/site.yml", lab.ctx.state.inventory, log, extra=asked)
        assert (played.changed > 0) is changes, played.changes
    shown = lab.on(
        "cp",
        "openssl",
        "x509",
        "-noout",
        "-ext",
        "subjectAltName",
        "-in",
        "/etc/kubernetes/pki/apiserver.crt",
    )
    assert "DNS:api.example.org" in shown and lab.address("cp") in shown
