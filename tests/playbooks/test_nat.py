"""A cluster on hosts whose first card has the same address on each, as VirtualBox gives them, and forwarded ports."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.clients import ssh
from slipway.clients.kubectl import Kubectl
from slipway.core.context import Context
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


def test_nodes_meet_over_the_network_that_they_share(tmp_path_factory: pytest.TempPathFactory) -> None:
    state = State(tmp_path_factory.mktemp("nat") / ".slipway")
    ctx = Context(state, state.new_run(), ROOT)
    try:
        with ExitStack() as stack:
            made = HOSTS.run(ctx, SETTINGS).value
            for host in made.hosts:
                with ssh.connect(host, made.identity) as connection:
                    connection.run(["sh", "-c", NAT])
            ports = {host.name: stack.enter_context(forwarded(host.address)) for host in made.hosts}
            hosts = replace(
                made,
                hosts=tuple(replace(host, address="127.0.0.1", port=ports[host.name]) for host in made.hosts),
            )
            base.record(ctx.state, hosts)
            _see_that_all_follows(ctx, made, hosts)
    finally:
        take_down(ctx)
        assert traces(lab_name(ctx.state.root)) == []


def _see_that_all_follows(ctx: Context, made: Hosts, hosts: Hosts) -> None:
    private = {host.name: host.address for host in made.hosts}
    cluster = Provision().run(ctx, SETTINGS, hosts).value
    assert {node.name: node.address for node in cluster.nodes} == private
    assert cluster.api == f"https://{private['cp']}:6443", (
        "this machine gets through, which no forwarded port would"
    )
    assert cluster.registry is not None and cluster.registry.address == f"{private['cp']}:5000"
    nodes = Kubectl.of(cluster).get("nodes")["items"]
    for node in nodes:
        assert (
            node["metadata"]["annotations"]["flannel.alpha.coreos.com/public-ip"]
            == private[node["metadata"]["name"]]
        )
        (ready,) = [each for each in node["status"]["conditions"] if each["type"] == "Ready"]
        assert ready["status"] == "True", json.dumps(ready)
    with ssh.connect(made.hosts[1], made.identity) as connection:
        route = connection.run(["ip", "-4", "route", "get", "8.8.8.8"]).stdout
    assert "10.0.2.15" in route, "the default route leads through the other card all the while"
    assert Provision().run(ctx, SETTINGS, hosts).changed == 0
