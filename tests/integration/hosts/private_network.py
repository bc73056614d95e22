"""Two labs on a machine of their own, asked from every side: `private_network.py FIREWALL FORWARDING GUESTS`.

Run as root in new network and mount namespaces, where it is the machine. Around it are a neighbour, who is
also its way to the outside, to a cloud's metadata address and to other private networks, and an owner's LAN.
FIREWALL is the owner's ("none", "drop", "ufw", "accept", "one"), FORWARDING his net.ipv4.ip_forward, GUESTS
what he has on a bridge ("none", "bridge before", "engine before", "engine meanwhile"). It makes two labs and
asks, takes one down and asks, takes the other down and asks. Prints one JSON document: what came of each
question in each phase, whether the firewall is as it was found, and what kept forwarding on.

What comes of a question is "answered", "delivered" (it arrived, the answer did not) or "closed".
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from slipway.core import process
from slipway.hosts.nspawn import network
from slipway.hosts.nspawn.labs import Lab, LabHost
from slipway.hosts.nspawn.network import Opening

PORTS = (22, 53, 80, 8472)
QUIET = (
    0.7  # seconds without news after which no more comes: packets here take none, only the machine is busy
)
ADDRESSES = {
    "machine": ("192.168.50.1", "198.51.100.1"),
    "neighbour": (
        "198.51.100.2",
        "172.20.5.5",
        "203.0.113.7",
        "203.0.113.99",
        "169.254.169.254",
        "100.64.0.9",
        "10.99.0.5",
    ),
    "lan": ("192.168.50.2", "192.168.50.3", "192.168.50.4"),
    "c1": ("172.17.0.2",),
    "c2": ("172.17.0.3",),
    "a1": ("10.77.0.2",),
    "a2": ("10.77.0.3",),
    "b1": ("10.77.1.2",),
}
GATEWAYS = ("10.77.0.1", "10.77.1.1")
# A mirror on the LAN and a resolver on this machine, as inherit.openings makes them; the third is hosts.reach.
OPENINGS = (
    Opening("192.168.50.3/32", "tcp", 80),
    Opening("192.168.50.1/32", "tcp", 53),
    Opening("192.168.50.1/32", "udp", 53),
    Opening("192.168.50.4/32"),
)
UFW = """*filter
:ufw-before-input - [0:0]
:ufw-before-forward - [0:0]
:ufw-after-forward - [0:0]
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A INPUT -j ufw-before-input
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-after-forward
-P INPUT DROP
-P FORWARD DROP
COMMIT
"""


@dataclass(frozen=True)
class Question:
    """One packet or connection. host: who asks. source: its address, "" for the natural one."""

    host: str
    source: str
    to: str
    port: int
    protocol: str

    @property
    def name(self) -> str:
        return f"{self.source or self.host} -> {self.to} {self.protocol}/{self.port}"


# -- the machine and its surroundings -----------------------------------------------------------------


def ip(*words: str) -> None:
    process.run(["ip", *words])


def cable(here: str, address: str, there: str, *addresses: str) -> None:
    """A network namespace `there`, cabled to the interface `here` of this machine."""
    ip("netns", "add", there)
    ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", there)
    ip("address", "add", f"{address}/24", "dev", here)
    ip("link", "set", here, "up")
    for one in addresses:
        ip("-n", there, "address", "add", f"{one}/24", "dev", "eth0")
    ip("-n", there, "link", "set", "lo", "up")
    ip("-n", there, "link", "set", "eth0", "up")
    ip("-n", there, "route", "add", "default", "via", address)


def surroundings() -> None:
    ip("link", "set", "lo", "up")
    cable("wan0", "198.51.100.1", "neighbour", "198.51.100.2")
    for far in ADDRESSES["neighbour"][1:]:
        ip("-n", "neighbour", "address", "add", f"{far}/32", "dev", "lo")
    ip("route", "add", "default", "via", "198.51.100.2")
    cable("lan0", "192.168.50.1", "lan", *ADDRESSES["lan"])


def bridge() -> None:
    """A bridge of the owner's with two guests on it, containers or virtual machines."""
    ip("link", "add", "docker0", "type", "bridge")
    ip("address", "add", "172.17.0.1/16", "dev", "docker0")
    ip("link", "set", "docker0", "up")
    for name, address in (("c1", "172.17.0.2"), ("c2", "172.17.0.3")):
        ip("netns", "add", name)
        ip("link", "add", f"veth-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"veth-{name}", "master", "docker0", "up")
        ip("-n", name, "address", "add", f"{address}/16", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "route", "add", "default", "via", "172.17.0.1")


def engine() -> None:
    """What Docker adds when it starts while forwarding is on already."""
    bridge()
    begun = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
    tables("filter", "-I", "FORWARD", "-i", "docker0", "-j", "ACCEPT")
    tables("filter", "-I", "FORWARD", "-o", "docker0", *begun, "-j", "ACCEPT")
    tables("nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "!", "-o", "docker0", "-j", "MASQUERADE")


def tables(table: str, *words: str) -> None:
    process.run(["iptables", "--wait", "10", "-t", table, *words])


def firewall(kind: str) -> None:
    if kind == "ufw":
        process.run(["iptables-restore", "--noflush"], input=UFW)
    elif kind == "drop":
        tables("filter", "-P", "FORWARD", "DROP")
    elif kind == "accept":  # by rules, so that nothing the owner lets through comes to what is behind them
        tables("filter", "-A", "FORWARD", "-j", "ACCEPT")
        tables("filter", "-A", "INPUT", "-j", "ACCEPT")
    elif kind == "one":  # a rule about one address, whoever wants to go there
        tables("filter", "-A", "FORWARD", "-d", "203.0.113.99", "-j", "DROP")


def lab(letter: str, number: int, hosts: int, forwarding: str, interfaces: tuple[str, ...]) -> Lab:
    name = f"slip-{letter * 6}"
    return Lab(
        name=name,
        token="t",
        state=Path("/nowhere"),
        subnet=f"10.77.{number}.0/24",
        gateway=f"10.77.{number}.1",
        mtu=1500,
        suite="trixie",
        bridge=name,
        forward_chain=f"{name}-forward",
        nat_chain=f"{name}-nat",
        ip_forward_before=forwarding,
        interfaces_before=interfaces,
        hosts=tuple(
            LabHost(
                name=f"h{index}",
                address=f"10.77.{number}.{index + 1}",
                groups=(),
                machine=f"{name}-h{index}",
                machine_id="",
                netns=f"{letter}{index}",
                interface=f"slip{letter * 6}-{index}",
                root=Path("/nowhere"),
            )
            for index in range(1, hosts + 1)
        ),
    )


# -- asking -------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_machine = os.open("/proc/self/ns/net", os.O_RDONLY)


@contextmanager
def inside(host: str) -> Iterator[None]:
    """Sockets made here belong to that host, also afterwards."""
    if host == "machine":
        yield
        return
    there = os.open(f"/run/netns/{host}", os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(_machine)
        os.close(there)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Asking:
    """Listeners on every port of every host, and the questions on their way."""

    def __init__(self, hosts: list[str]) -> None:
        self.selector = selectors.DefaultSelector()
        self.open: list[socket.socket] = []
        self.arrived: set[str] = set()
        self.answered: set[str] = set()
        for host in hosts:
            for address in ("::", *ADDRESSES[host], *(GATEWAYS if host == "machine" else ())):
                self._listen(host, address)

    def _listen(self, host: str, address: str) -> None:
        """On each address by itself, so that an answer comes from the one that was asked."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for port in PORTS:
            for kind, act in ((socket.SOCK_STREAM, self._accept), (socket.SOCK_DGRAM, self._echo)):
                with inside(host):
                    listener = socket.socket(family, kind)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND: a lab's gateway comes and goes
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address, port))
                if kind == socket.SOCK_STREAM:
                    listener.listen(64)
                self._watch(listener, selectors.EVENT_READ, act)

    def ask(self, questions: list[Question]) -> dict[str, str]:
        """What came of each. Names are sent as they are, so that whoever gets one says what arrived."""
        for question in questions:
            self._send(question)
        last = time.monotonic()
        while time.monotonic() < last + QUIET:
            for key, _ in self.selector.select(0.1):
                key.data(key.fileobj)
                last = time.monotonic()
        return {
            question.name: "answered"
            if question.name in self.answered
            else "delivered"
            if question.name in self.arrived
            else "closed"
            for question in questions
        }

    def close(self) -> None:
        self.selector.close()
        for one in self.open:
            one.close()

    def _send(self, question: Question) -> None:
        stream = question.protocol == "tcp"
        link = question.to.partition("%")[2]
        with inside(question.host):
            asking = socket.socket(
                socket.AF_INET6 if ":" in question.to else socket.AF_INET,
                socket.SOCK_STREAM if stream else socket.SOCK_DGRAM,
            )
            scope = socket.if_nametoindex(link) if link else 0
        asking.setblocking(False)
        if question.source:
            asking.bind((question.source, 0))
        to = (
            (question.to.partition("%")[0], question.port, 0, scope)
            if ":" in question.to
            else (question.to, question.port)
        )
        try:
            asking.connect(to)
        except BlockingIOError:
            pass
        except OSError:
            asking.close()  # no way there at all
            return
        payload = question.name.encode()

        def connected(sock: socket.socket) -> None:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._forget(sock)
                return
            sock.send(payload)
            self.selector.modify(sock, selectors.EVENT_READ, self._answer)

        if stream:
            self._watch(asking, selectors.EVENT_WRITE, connected)
        else:
            self._watch(asking, selectors.EVENT_READ, self._answer)
            asking.send(payload)

    def _watch(self, sock: socket.socket, event: int, act: object) -> None:
        self.open.append(sock)
        self.selector.register(sock, event, act)

    def _forget(self, sock: socket.socket) -> None:
        self.selector.unregister(sock)
        sock.close()

    def _accept(self, listener: socket.socket) -> None:
        taken, _ = listener.accept()
        taken.setblocking(False)
        self._watch(taken, selectors.EVENT_READ, self._serve)

    def _serve(self, taken: socket.socket) -> None:
        try:
            data = taken.recv(1000)
        except OSError:
            data = b""
        if data:
            self.arrived.add(data.decode())
            taken.send(data)
        else:
            self._forget(taken)

    def _echo(self, listener: socket.socket) -> None:
        data, sender = listener.recvfrom(1000)
        self.arrived.add(data.decode())
        try:
            listener.sendto(data, sender)
        except OSError:
            return  # refused on its way out, or no way back: it arrived all the same

    def _answer(self, asking: socket.socket) -> None:
        with suppress(OSError):  # refused
            self.answered.add(asking.recv(1000).decode())
        self._forget(asking)


def questions(hosts: list[str]) -> list[Question]:
    """From everybody to everybody else's every address, and link-local from the labs to the machine."""
    found: list[Question] = []
    for host in hosts:
        sources = ("198.51.100.2", "172.20.5.5") if host == "neighbour" else ("",)
        gateways = tuple(f"10.77.{number}.1" for number in (0, 1) if host != "machine")
        others = [address for other in hosts if other != host for address in ADDRESSES[other]]
        for source in sources:
            for to in [*others, *gateways]:
                for port in PORTS:
                    found += [Question(host, source, to, port, protocol) for protocol in ("tcp", "udp")]
    return found


def over_ipv6(bridge: str, hosts: list[str]) -> list[Question]:
    """From a lab's hosts to the machine's own end of their bridge, whatever address it would give itself."""
    mac = Path(f"/sys/class/net/{bridge}/address").read_text().strip().split(":")
    first = int(mac[0], 16) ^ 2
    local = f"fe80::{first:02x}{mac[1]}:{mac[2]}ff:fe{mac[3]}:{mac[4]}{mac[5]}"
    return [
        Question(host, "", f"{local}%eth0", 22, protocol) for host in hosts for protocol in ("tcp", "udp")
    ]


# -- the whole of it ----------------------------------------------------------------------------------


def rules() -> list[str]:
    """The firewall, without counters and without builtin chains as they are when nobody touched them."""
    lines = [line.partition(" [")[0] for line in process.run(["iptables-save"]).stdout.splitlines()]
    return [line for line in lines if line.startswith((":", "-")) and not line.endswith(" ACCEPT")]


def up(one: Lab) -> None:
    refuse = network.refused(network.addresses())
    network.up(one, OPENINGS, refuse)
    for host in one.hosts:
        network.attach(one, host)
    assert network.up(one, OPENINGS, refuse) == 0, "a second up found something to do"


def down(one: Lab) -> None:
    for host in one.hosts:
        network.detach(host)
    network.down(one)


def asked(hosts: list[str], *more: Question) -> dict[str, str]:
    asking = Asking(hosts)
    try:
        return asking.ask([*questions(hosts), *more])
    finally:
        asking.close()


def main(kind: str, forwarding: str, guests: str) -> None:
    surroundings()
    if guests in ("bridge before", "engine before"):
        bridge() if guests == "bridge before" else engine()
    firewall(kind)
    network.IP_FORWARD.write_text(forwarding)
    around = ["machine", "neighbour", "lan", *(["c1", "c2"] if guests.endswith("before") else [])]
    before, interfaces = rules(), network.interfaces()
    labs = [lab("a", 0, 2, forwarding, interfaces), lab("b", 1, 1, forwarding, interfaces)]
    for one in labs:
        up(one)
    if guests == "engine meanwhile":
        engine()
        around += ["c1", "c2"]
    out = {}
    time.sleep(1.2)  # an IPv6 address is checked for doubles for a second before it can be used
    strange = (Question("a1", "192.168.50.77", "203.0.113.7", 80, protocol) for protocol in ("tcp", "udp"))
    ip("-n", "a1", "address", "add", "192.168.50.77/32", "dev", "lo")
    out["both"] = asked([*around, "a1", "a2", "b1"], *over_ipv6(labs[0].bridge, ["a1"]), *strange)
    down(labs[0])
    out["second"] = asked([*around, "b1"])
    down(labs[1])
    needed_by = network.newcomers(labs[1])
    if network.turned_on_forwarding(labs[1]) and not needed_by:
        network.IP_FORWARD.write_text("0")
    out["none"] = asked(around)
    as_before = [line for line in rules() if "docker0" not in line] == [
        line for line in before if "docker0" not in line
    ]
    print(json.dumps({"asked": out, "as_before": as_before, "needed_by": needed_by}))


if __name__ == "__main__":
    main(*sys.argv[1:])
