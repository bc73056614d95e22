"""What the nspawn backend promises beyond the contract: kills, crashes, clashes, a clean machine after."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from slipway.clients import ssh
from slipway.core import process
from slipway.core.errors import EnvironmentFault, HostError
from slipway.core.schema import Settings
from slipway.core.state import cache_home
from slipway.core.types import Hosts
from slipway.hosts.nspawn import inherit, network, roots
from slipway.hosts.nspawn.labs import Records

from tests.contract.contract_lab import Lab
from tests.lab_traces import traces

pytestmark = [pytest.mark.lab, pytest.mark.alone]
MakeLab = Callable[..., Lab]
HERE = Path(__file__).parent
# Every step of `up` that leaves something on this machine, in order.
POINTS = (
    "after:nspawn.labs:Records.write",
    "after:base:key_pair",
    "after:nspawn.network:_bridge",
    "after:nspawn.network:up",
    "after:nspawn.host_files:prepare",
    "after:nspawn.network:attach",
    "after:nspawn.cgroups:make",
    "before:nspawn.running:wait_for_ssh",
    "said:booted",
    "before:base:record",
)


def killed(lab: Lab, point: str) -> None:
    """Run `up` of a lab in a process that is killed at a point."""
    done = process.run(
        [sys.executable, HERE / "killed_up.py", lab.folder, lab.ctx.cache, point],
        check=False,
        timeout=120,
        cwd=HERE.parents[1],
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def answers(hosts: Hosts) -> str:
    with ssh.connect(hosts.hosts[0]) as connection:
        return connection.run(["hostname"]).stdout.strip()


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=[pytest.mark.soak] * (at % 2)) for at, point in enumerate(POINTS)]
)
def test_after_a_kill_up_goes_on(own_lab: MakeLab, point: str) -> None:
    lab = own_lab()
    killed(lab, point)
    outcome = lab.up()
    assert answers(outcome.value) == "cp"
    assert lab.up().changed == 0


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_down_leaves_nothing(own_lab: MakeLab, point: str) -> None:
    lab = own_lab()
    killed(lab, point)
    assert traces(lab.name) != []
    lab.down()
    assert traces(lab.name) == []
    assert not lab.ctx.state.hosts.exists()
    assert lab.down() == []


def test_a_kill_while_the_root_is_made_leaves_no_half_root(own_lab: MakeLab, tmp_path: Path) -> None:
    lab = own_lab(cache=tmp_path / "cache")
    killed(lab, "said:extracting archives")
    partial = [path.name for path in (tmp_path / "cache/roots").iterdir()]
    assert [name.endswith(".partial") for name in partial] == [True]
    for _ in range(600):  # the kernel ends the builder's namespace when its parent dies
        if not _mentions(str(tmp_path / "cache")):
            break
        time.sleep(0.1)
    assert _mentions(str(tmp_path / "cache")) == []
    assert str(tmp_path / "cache") not in Path("/proc/mounts").read_text()
    assert answers(lab.up().value) == "cp"
    assert [path.name.endswith(".partial") for path in (tmp_path / "cache/roots").iterdir()] == [False]


def test_hosts_outlive_the_process_that_made_them(own_lab: MakeLab) -> None:
    lab = own_lab()
    killed(lab, "before:base:record")
    assert [line.state for line in lab.backend.status(lab.ctx)] == ["running"]
    boots = (lab.ctx.state.hosts / "cp/console.log").read_text().count("== boot")
    lab.up()
    assert (lab.ctx.state.hosts / "cp/console.log").read_text().count("== boot") == boots


def test_down_gives_back_what_up_took(own_lab: MakeLab) -> None:
    lab = own_lab()
    others = {other.name for other in Records().all()}
    before = network.IP_FORWARD.read_text()
    mounts = Path("/proc/mounts").read_text()
    lab.up()
    assert network.IP_FORWARD.read_text() == "1\n"
    removed = lab.down()
    assert f"bridge {lab.name}" in removed
    assert traces(lab.name) == []
    assert not lab.ctx.state.ssh.exists()
    if not others and not Records().all():  # other labs of this machine keep forwarding on
        assert network.IP_FORWARD.read_text() == before
        assert Path("/proc/mounts").read_text() == mounts


def test_a_host_that_died_is_booted_again_with_its_files(own_lab: MakeLab) -> None:
    lab = own_lab()
    hosts = lab.up().value
    with ssh.connect(hosts.hosts[0]) as connection:
        connection.run(["sh", "-c", "echo kept >/root/kept; sync"])
    pid = int((lab.ctx.state.hosts / "cp/pid").read_text().split()[0])
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    for one in [pid, *children]:
        os.kill(one, signal.SIGKILL)
    again = lab.up()
    assert again.changed > 0
    assert again.value == hosts
    with ssh.connect(hosts.hosts[0]) as connection:
        assert connection.run(["cat", "/root/kept"]).stdout == "kept\n"


def end(connection: ssh.Connection, how: str) -> None:
    """Reboot or power off a host that has finished booting, a moment after this connection has its answer."""
    connection.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=90)
    later = ["systemd-run", "--quiet", "--on-active=1s", "--timer-property=AccuracySec=100ms"]
    connection.run([*later, "systemctl", how])


def test_a_host_can_reboot(own_lab: MakeLab) -> None:
    lab = own_lab()
    hosts = lab.up().value
    with ssh.connect(hosts.hosts[0]) as connection:
        first = connection.run(["stat", "-c", "%Y", "/proc/1"]).stdout
        end(connection, "reboot")
    console = lab.ctx.state.hosts / "cp/console.log"
    for _ in range(900):
        if "== reboot" in console.read_text():
            break
        time.sleep(0.1)
    lab.up()
    with ssh.connect(hosts.hosts[0]) as connection:
        assert connection.run(["stat", "-c", "%Y", "/proc/1"]).stdout >= first
    assert console.read_text().count("== boot") == 1


def test_a_bridge_somebody_deleted_comes_back(own_lab: MakeLab) -> None:
    lab = own_lab()
    hosts = lab.up().value
    process.run(["ip", "link", "delete", lab.name])
    process.run(["iptables", "--wait", "10", "-F", f"{lab.name}-forward"])
    again = lab.up()
    assert again.changed == 2
    assert again.value == hosts
    rules = process.run(["iptables", "--wait", "10", "-S", f"{lab.name}-forward"]).stdout
    assert "--physdev-is-bridged -j ACCEPT" in rules.splitlines()[1]


def test_two_labs_live_side_by_side(own_lab: MakeLab) -> None:
    first, second = own_lab("first"), own_lab("second")
    one, two = first.up().value, second.up().value
    assert one.hosts[0].address != two.hosts[0].address
    assert one.hosts[0].host_key != two.hosts[0].host_key
    first.down()
    assert answers(two) == "cp"
    assert network.IP_FORWARD.read_text() == "1\n"
    with ssh.connect(two.hosts[0]) as connection:
        # apt's archive is reached through this machine: forwarding still works
        connection.run(["apt-get", "update", "--quiet", "-o", "APT::Update::Error-Mode=any"], timeout=120)


def test_what_hosts_inherit_works_on_them(own_lab: MakeLab) -> None:
    lab = own_lab()
    hosts = lab.up().value
    assert "install" not in " ".join(lab.said)
    with ssh.connect(hosts.hosts[0]) as connection:
        assert int(connection.run(["stat", "-c", "%Y", "/var/lib/apt/lists"]).stdout) < 1_600_000_000
        connection.run(["modprobe", "br_netfilter"])
        assert connection.run(["systemctl", "is-system-running", "--wait"]).stdout == "running\n"
        connection.run(["apt-get", "update", "--quiet", "-o", "APT::Update::Error-Mode=any"], timeout=120)
        connection.run(["apt-get", "install", "--yes", "--quiet", "python3-venv"], timeout=300)
        script = (
            "python3 -m venv /root/v && /root/v/bin/pip download --no-deps --dest /root/w six && ls /root/w"
        )
        assert "six" in connection.run(["sh", "-c", script], timeout=120).stdout
        foreign = "import socket; socket.create_connection(('10.200.200.200', 80), 5)"
        refused = connection.run(["python3", "-c", foreign], check=False)
        assert "Connection refused" in refused.stderr or "unreachable" in refused.stderr


def settings() -> dict[str, str]:
    """This machine's kernel settings, those of networks and what the kernel itself counts aside."""
    found: dict[str, str] = {}
    for path in sorted(Path("/proc/sys").rglob("*")):
        name = str(path.relative_to("/proc/sys"))
        if not name.startswith("net/") and path.is_file() and path.stat().st_mode & 0o200:
            with suppress(OSError):
                found[name] = path.read_text()
    return {
        name: value for name, value in found.items() if "ns_last_pid" not in name and "random" not in name
    }


def test_a_host_changes_no_setting_of_this_machine_and_opens_no_disk(own_lab: MakeLab) -> None:
    before = settings()
    lab = own_lab()
    hosts = lab.up().value
    disk = Path("/").stat().st_dev or 0xFE00
    with ssh.connect(hosts.hosts[0]) as connection:

        def tried(script: str) -> int:
            return connection.run(["sh", "-c", script], check=False).returncode

        for name in ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory"):
            # as kubelet does it: set, and read back
            assert tried(f"echo 7 >/proc/sys/{name} && grep -qx 7 /proc/sys/{name}") == 0
        assert tried("echo 7 >/proc/sys/vm/swappiness") != 0
        assert tried("echo 1 >/proc/sys/net/ipv4/ip_forward") == 0  # the network is the host's own
        node = f"mknod /root/disk b {os.major(disk)} {os.minor(disk)}"
        assert tried(node) == 0
        assert tried("head -c 1 /root/disk") != 0
        assert tried("mknod /root/mem c 1 1 && head -c 1 /root/mem") != 0
        assert tried("head -c 1 /dev/zero && exec 3</dev/kmsg 4</dev/net/tun 5</dev/fuse 6</dev/loop0") == 0
    changed = {name for name, value in settings().items() if before.get(name) != value}
    assert {name for name in changed if not name.startswith("fs/inotify/max_user_")} == set()
    told = "\n".join(lab.said[: lab.said.index("booted")])
    chains = [
        line[1:].split()[0] for line in process.run(["iptables-save"]).stdout.splitlines() if line[0] == ":"
    ]
    mine = [chain for chain in chains if chain.startswith(lab.name)]
    assert len(mine) == 7
    assert [one for one in [*mine, *(name.replace("/", ".") for name in changed)] if one not in told] == []
    assert lab.backend.plan(lab.ctx, lab.settings) == []
    lab.down()
    if not Records().all():
        assert settings() == before


@pytest.fixture
def neighbour() -> Iterator[tuple[str, str]]:
    """Somebody beside this machine: a network namespace, and the address this machine has there."""
    name = "slipneighbour"  # not of a lab's form: a lab's interfaces are slip-...
    process.run(["ip", "netns", "add", name])
    try:
        process.run(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name])
        process.run(["ip", "address", "add", "192.168.253.1/30", "dev", name])
        process.run(["ip", "link", "set", name, "up"])
        for words in (
            "address add 192.168.253.2/30 dev eth0",
            "link set eth0 up",
            "route add default via 192.168.253.1",
        ):
            process.run(["ip", "-n", name, *words.split()])
        yield name, "192.168.253.1"
    finally:
        process.run(["ip", "netns", "delete", name])


def test_a_running_lab_is_closed(made_lab: tuple[Lab, Hosts], neighbour: tuple[str, str]) -> None:
    """On a real lab only what matters most; tests/integration/hosts/test_closed_lab.py asks in every direction."""
    lab, hosts = made_lab
    host = hosts.hosts[0]
    name, this_machine = neighbour
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    outside = process.run(
        ["ip", "netns", "exec", name, sys.executable, "-c", connect, host.address, "22"], check=False
    )
    assert "timed out" in outside.stderr
    with (
        socket.create_server((this_machine, 0)) as server,
        ssh.connect(host) as connection,
    ):
        port = str(server.getsockname()[1])
        within = process.run(["ip", "netns", "exec", name, sys.executable, "-c", connect, this_machine, port])
        assert within.returncode == 0  # the way there is open, for a neighbour
        gateway = host.address.rpartition(".")[0] + ".1"
        for address in (this_machine, gateway, "169.254.169.254", "100.64.0.1", "192.168.0.1"):
            done = connection.run(["python3", "-c", connect, address, port], check=False)
            assert "Connection refused" in done.stderr, f"{address}: {done.stderr}"
    assert lab.up().changed == 0


def test_a_record_nobody_can_read_holds_up_no_lab(own_lab: MakeLab) -> None:
    broken = Records().folder / "slip-000000.json"
    lab = own_lab()
    with Records().locked():
        broken.write_text("{")
    try:
        lab.up()
        lab.down()
        assert [line for line in lab.said if str(broken) in line] != []
        assert network.IP_FORWARD.read_text() == "1\n"  # that lab may need it
    finally:
        broken.unlink()
    assert lab.up().value.hosts[0].name == "cp"


def test_more_and_fewer_workers(own_lab: MakeLab) -> None:
    lab = own_lab()
    one = lab.up().value
    lab.settings = Settings.model_validate({"hosts": {"workers": 1}})
    two = lab.up().value
    assert two.hosts[0] == one.hosts[0]
    with ssh.connect(two.hosts[0]) as connection:
        assert connection.run(["getent", "hosts", "worker-1"]).stdout.split()[0] == two.hosts[1].address
    lab.settings = Settings.model_validate({"hosts": {"workers": 0}})
    assert lab.backend.plan(lab.ctx, lab.settings) == ["remove host worker-1"]
    assert lab.up().value == one
    assert [trace for trace in traces(lab.name) if "worker-1" in trace] == []


def test_a_lab_whose_state_folder_is_gone_is_reclaimed(own_lab: MakeLab) -> None:
    lost, other = own_lab("lost"), own_lab("other")
    lost.up()
    shutil.rmtree(lost.folder)
    other.up()
    assert traces(lost.name) == []
    assert [line for line in other.said if f"reclaiming lab {lost.name}" in line and "is gone" in line]


def test_a_state_folder_made_anew_gets_a_new_lab(own_lab: MakeLab) -> None:
    lab = own_lab()
    before = lab.up().value
    shutil.rmtree(lab.folder)
    after = lab.up().value
    assert after.hosts[0].host_key != before.hosts[0].host_key
    assert answers(after) == "cp"


def test_a_subnet_in_use_is_refused_with_its_user(own_lab: MakeLab) -> None:
    first = own_lab("first")
    address = first.up().value.hosts[0].address
    subnet = address.rpartition(".")[0] + ".0/24"
    second = own_lab("second", subnet=subnet)
    with pytest.raises(EnvironmentFault, match="is in use by") as refused:
        second.up()
    assert first.name in refused.value.what or str(first.folder) in refused.value.what
    assert traces(second.name) == []


def test_a_changed_subnet_is_refused_while_the_lab_is_up(own_lab: MakeLab) -> None:
    lab = own_lab()
    lab.up()
    lab.settings = Settings.model_validate({"hosts": {"workers": 0, "mtu": 1300}})
    with pytest.raises(HostError, match=r"hosts\.mtu"):
        lab.up()


@pytest.fixture
def foreign_interface(tmp_path: Path) -> Iterator[str]:
    from slipway.hosts.nspawn.labs import lab_name

    name = lab_name(tmp_path / "state")
    process.run(["ip", "link", "add", name, "type", "bridge"])
    yield name
    process.run(["ip", "link", "delete", name])


def test_a_name_in_use_is_refused_and_left_alone(own_lab: MakeLab, foreign_interface: str) -> None:
    lab = own_lab()
    with pytest.raises(EnvironmentFault, match=f"{foreign_interface} exists"):
        lab.up()
    assert lab.down() == []
    assert network.link_exists(foreign_interface)


def test_an_unreachable_mirror_is_said_with_the_true_cause(own_lab: MakeLab, tmp_path: Path) -> None:
    lab = own_lab(cache=tmp_path / "cache")
    lab.settings = Settings.model_validate(
        {"hosts": {"workers": 0}, "site": {"apt_mirror": "http://127.0.0.1:9/none"}}
    )
    with pytest.raises(EnvironmentFault, match=r"http://127\.0\.0\.1:9/none") as failed:
        lab.up()
    assert "Connection refused" in failed.value.tail
    assert "site.apt_mirror" in failed.value.action
    lab.down()
    assert traces(lab.name) == []


def test_a_host_that_does_not_boot_shows_its_console(own_lab: MakeLab) -> None:
    lab = own_lab()
    lab.up()
    with ssh.connect(lab.ctx.state.kept(Hosts).hosts[0]) as connection:  # type: ignore[union-attr]  # it is up
        connection.run(
            ["sh", "-c", "printf '#!/bin/sh\\necho broken init\\nexit 9\\n' >/usr/lib/slipway-init; sync"]
        )
        end(connection, "poweroff")
    for _ in range(900):
        if lab.backend.status(lab.ctx)[0].state == "stopped":
            break
        time.sleep(0.1)
    with pytest.raises(HostError, match="does not boot") as failed:
        lab.up()
    assert failed.value.where == "cp"
    assert "broken init" in failed.value.tail
    assert "broken init" in lab.backend.collect(lab.ctx, None)[0].read(20)


def test_the_key_and_the_hosts_folder_are_private(own_lab: MakeLab) -> None:
    lab = own_lab()
    lab.up()
    modes = {
        path.name: path.stat().st_mode & 0o777
        for path in [lab.folder, *lab.ctx.state.ssh.iterdir(), lab.ctx.state.ssh]
    }
    assert modes == {
        "state": 0o700,
        "ssh": 0o700,
        "id_ed25519": 0o600,
        "id_ed25519.pub": 0o644,
        "host_cp": 0o600,
        "host_cp.pub": 0o644,
        "known_hosts": 0o600,
    }


def test_an_emptied_cache_is_said(own_lab: MakeLab, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "roots").mkdir(parents=True)
    real = next((cache_home() / "roots").glob("trixie-*"), None)
    lab = own_lab(cache=cache)
    key = roots.key(_site())
    assert real is not None
    whole = roots.path(cache_home(), _site(), Settings().artifacts.refresh_days)
    process.run(["cp", "-a", whole, cache / "roots" / key])
    lab.up()
    with ssh.connect(lab.ctx.state.kept(Hosts).hosts[0]) as connection:  # type: ignore[union-attr]  # it is up
        end(connection, "poweroff")
    for _ in range(900):
        if lab.backend.status(lab.ctx)[0].state == "stopped":
            break
        time.sleep(0.1)
    shutil.rmtree(cache / "roots" / key)
    with pytest.raises(HostError, match="root is gone"):
        lab.up()


def _site() -> inherit.Site:
    return inherit.site(Settings().site, None)


def _mentions(text: str) -> list[str]:
    found: list[str] = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        if int(command.parent.name) == os.getpid():
            continue
        try:
            words = command.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in words:
            found.append(words)
    return found
