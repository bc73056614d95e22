"""Role lxd on a real host, from a bare one and back to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slipway.core.errors import ProvisionError

from tests.playbooks.bare_host import BareHost, bare_host

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

# What is there of packages, users, groups, numbers for user namespaces, interfaces, firewall, mounts, processes and
# files; how long apt waits is told to it by a role of its own
STATE = r"""
dpkg-query -W -f 'package ${Package} ${db:Status-Abbrev}\n'; apt-mark showauto | sed 's/^/auto /'
for file in passwd group shadow gshadow subuid subgid; do sed "s/^/$file /" /etc/$file; done
ls /sys/class/net; iptables-save | grep '^-A'; ip6tables-save | grep '^-A'
cut -d ' ' -f 2 /proc/mounts | grep -v ^/run | sort; ps -e -o comm= | grep -E '^(lxd|lxcfs|dnsmasq)'
find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/cache -o -path /var/log \
  -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /root/.ansible -o -path /var/backups/slipway \
  -o -name 80slipway-timeouts \) -prune -o -print
find /var/lib/lxd
"""


# When LXD was started, and what it says of itself
STARTED = "systemctl show --property=MainPID,ActiveEnterTimestampMonotonic lxd.service lxd.socket"
# the client would write into root's home
LXC = "export LXD_CONF=/run/lxc;"
SAYS = f"""{LXC}
for what in '' /networks/lxdbr0 /storage-pools/default /profiles/default; do lxc query /1.0$what; done
"""
# A container that runs, and other things that somebody made
SOMEBODYS = rf"""{LXC}
set -e
mkdir -p /run/image/rootfs/dev /run/image/rootfs/proc /run/image/rootfs/sys /run/image/rootfs/sbin
cd /run/image
for file in /usr/bin/bash /usr/bin/sleep $(ldd /usr/bin/bash /usr/bin/sleep | grep -o '/[^ :]* ' | sort -u); do
  cp --parents --dereference $file rootfs
done
printf '#!/usr/bin/bash
exec /usr/bin/sleep 600
' >rootfs/sbin/init
chmod +x rootfs/sbin/init
printf 'architecture: %s
creation_date: 1
' "$(uname -m)" >metadata.yaml
tar --create --file image.tar metadata.yaml rootfs
lxc image import image.tar --alias theirs
lxc launch theirs web
lxc storage volume create default data
lxc project create other
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHost]:
    with bare_host(tmp_path_factory.mktemp("lxd"), "lxd", lxd_users=["ann"]) as made:
        made.on("useradd ann; useradd ben")
        yield made


@pytest.fixture(scope="module")
def before(host: BareHost) -> str:
    return host.on(STATE)


def test_a_dry_run_on_a_bare_host_says_what_it_would_do_and_does_nothing(host: BareHost, before: str) -> None:
    host.mark()
    dry = host.play("lxd.yml", check=True)
    assert [change.subject for change in dry.changes if "would install" in change.subject]
    assert host.touched() == []
    assert host.on(STATE).splitlines() == before.splitlines()


def test_a_bare_host_gets_lxd_that_works(host: BareHost, before: str) -> None:
    host.play("lxd.yml")
    assert host.on(f"{LXC} lxc network get lxdbr0 ipv4.address").strip() == "10.79.0.1/24"
    host.mark()
    assert host.play("verify.yml").changed == 0
    assert host.on(f"{LXC} lxc list --format csv; lxc image list --format csv").strip() == ""
    assert [path for path in host.touched() if not path.startswith("/var/lib/lxd/")] == []


def test_a_second_run_changes_nothing_and_restarts_nothing(host: BareHost) -> None:
    started, says = host.on(STARTED), host.on(SAYS)
    host.mark()
    again = host.play("lxd.yml")
    assert again.changed == 0, again.changes
    assert host.on(STARTED) == started
    assert host.on(SAYS) == says
    assert [path for path in host.touched() if not path.startswith("/var/lib/lxd/")] == []


def test_what_differs_is_set_back_and_what_is_not_named_stays(host: BareHost) -> None:
    started = host.on(STARTED)
    host.on(
        f"{LXC} lxc network set lxdbr0 ipv4.nat=false; lxc network set lxdbr0 user.of=somebody;"
        " lxc profile device set default eth0 name=eth9; lxc profile set default limits.processes=900;"
        " gpasswd --delete ann lxd; rm /etc/sysctl.d/90-lxd.conf"
    )
    extra = {
        "config": {"images.auto_update_interval": 0},
        "profiles": [{"name": "small", "config": {"limits.cpu": 1}}],
    }
    dry = host.play("lxd.yml", check=True, lxd_preseed=extra)
    done = host.play("lxd.yml", lxd_preseed=extra)
    mended = {
        "lxd : Forward packets from the start",
        "lxd : Add users to group lxd",
        "lxd : Configure pool, bridge and profiles",
    }
    assert {change.task for change in dry.changes} == {change.task for change in done.changes} == mended
    told = host.on(
        f"{LXC} lxc network get lxdbr0 ipv4.nat; lxc network get lxdbr0 user.of; lxc profile device get default eth0 name;"
        " lxc profile get default limits.processes; lxc profile get small limits.cpu;"
        " lxc config get images.auto_update_interval; id --name --groups ann; cat /etc/sysctl.d/90-lxd.conf"
    )
    assert told.splitlines() == [
        *("true", "somebody", "eth0", "900", "1", "0"),
        *("ann lxd", "net.ipv4.ip_forward = 1"),
    ]
    assert host.on(STARTED) == started
    assert host.play("lxd.yml", lxd_preseed=extra).changed == 0


def test_a_user_who_is_not_in_the_group_fails_the_trial(host: BareHost) -> None:
    with pytest.raises(ProvisionError, match="See that users can talk with LXD"):
        host.play("verify.yml", lxd_users=["ann", "ben"])


def test_a_host_that_containers_do_not_reach_fails_the_trial(host: BareHost) -> None:
    host.on("iptables -I INPUT -i lxdbr0 -p tcp -j REJECT")
    with pytest.raises(ProvisionError, match="Launch a container") as caught:
        host.play("verify.yml")
    host.on("iptables -D INPUT -i lxdbr0 -p tcp -j REJECT")
    assert "/dev/tcp/10.79.0.1/53" in caught.value.tail
    assert host.on(f"{LXC} lxc list --format csv; lxc image list --format csv").strip() == ""


def test_reset_leaves_the_host_as_it_was(host: BareHost, before: str) -> None:
    host.on(SOMEBODYS)
    host.on("mkdir /run/nft; cp $(command -v nft) $(ldd $(command -v nft) | grep -o '/[^ ]*') /run/nft")
    rules = "LD_LIBRARY_PATH=/run/nft /run/nft/nft list ruleset"
    assert "table inet lxd" in host.on(rules)
    host.play("reset.yml", tags="lxd", reset_confirmed=True)
    assert host.on(STATE).splitlines() == before.splitlines()
    assert "lxd" not in host.on(rules)
