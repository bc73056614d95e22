"""What goes wrong on a host or beside it while a playbook runs: it copes, or says what, where and what to do.

One bare host and Docker's role, the one that is set up soonest. In this order: each test goes on where the last one left it.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from slipway.core.errors import LockHeld, ProvisionError

from tests.playbooks.bare_host import PLAYBOOKS, BareHost, bare_host
from tests.playbooks.by_hand import ByHand, by_hand

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

# A Python whose clock is behind: it stands in for the host's, which is this machine's own
LATE = "/srv/late/python3"
LATE_SCRIPT = f"""
mkdir -p /srv/late
cat >/srv/late/sitecustomize.py <<'END'
import time
_time = time.time
time.time = lambda: _time() - 3 * 60 * 60
END
printf '#!/bin/sh\\nPYTHONPATH=/srv/late exec /usr/bin/python3 "$@"\\n' >{LATE}
chmod +x {LATE}
"""
# Holds the lock that unattended-upgrades holds, under a name like its own
HOLDER = "/srv/unattended-upgrade"
HOLD = f"""
cat >{HOLDER} <<'END'
#!/usr/bin/python3
import fcntl, time
file = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(3600)
END
chmod +x {HOLDER}
systemd-run --quiet --unit=stand-in-upgrade --service-type=exec {HOLDER}
until grep -q :$(stat -c %i /var/lib/dpkg/lock-frontend) /proc/locks; do sleep 0.1; done
systemctl show --property=MainPID --value stand-in-upgrade
"""
LET_GO = "systemctl stop stand-in-upgrade"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHost]:
    with bare_host(tmp_path_factory.mktemp("faults"), "docker") as made:
        yield made


@pytest.fixture(autouse=True)
def _collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(PLAYBOOKS / "collections"))


def site(host: BareHost, name: str) -> AbstractContextManager[ByHand]:
    """site.yml by hand."""
    return by_hand(host.folder, name, "site.yml", [host.inventory({})])


def test_what_would_end_badly_is_refused_before_anything_changes(host: BareHost) -> None:
    archives = "/var/cache/apt/archives"
    host.on(f"{LATE_SCRIPT}\nmount -t tmpfs -o size=20m none {archives}")
    host.mark()
    try:
        with pytest.raises(ProvisionError, match="Refuse hosts with problems") as caught:
            host.play("site.yml", ansible_python_interpreter=LATE)
    finally:
        host.on(f"umount {archives}")
    said = " ".join(caught.value.tail.split())
    assert "host: the clock of cp is 3.0 hours behind this controller's, which says " in said
    assert "apt's lists would count as ended or as not valid yet; set the one that is wrong" in said
    assert re.search(rf"host: cp: {archives} has \d+ MB free; expected 100 MB", said), said
    assert host.touched() == []
    # a role used alone says it as well
    with pytest.raises(ProvisionError, match="host : Check the host"):
        host.play("docker.yml", ansible_python_interpreter=LATE)
    assert host.touched() == []


def test_a_host_that_is_not_there_ends_the_run_while_no_other_is_changed(host: BareHost) -> None:
    host.mark()
    absent = host.folder / "absent.yml"
    absent.write_text("all: {hosts: {gone: {ansible_host: 127.0.0.1, ansible_port: 9}}}")
    with by_hand(host.folder, "absent", "site.yml", [host.inventory({}), absent]) as run:
        said = run.fails()
    assert "fatal: [gone]: UNREACHABLE!" in said and "port 9: Connection refused" in said
    assert set(run.tasks()) == {"host : Take the host for this run"}
    assert host.touched() == []


def test_an_apt_that_is_in_use_is_told_with_process_and_program(host: BareHost) -> None:
    number = host.on(HOLD).strip()
    holder = f"process {number}, unattended-upgr ({HOLDER}), holds /var/lib/dpkg/lock-frontend"
    for playbook in ("docker.yml", "reset.yml"):
        with pytest.raises(ProvisionError, match="Wait until nobody else uses apt") as caught:
            host.play(playbook, apt_source_lock_seconds=1, reset_confirmed=True)
        assert f"apt is in use: {holder}" in caught.value.tail, playbook


def test_two_runs_and_two_kills_later_the_host_is_as_after_one_run(host: BareHost) -> None:
    """While the first one waits for apt a second one is refused; then it is killed, and so is the next."""
    chance = random.Random(12)
    with site(host, "first") as first:
        assert first.reaches("apt_source : Wait until nobody else uses apt")
        host.mark()
        with site(host, "second") as second:
            said = second.fails()
        assert "cp is being set up by another run" in said
        assert f"which: ansible-playbook site.yml, process {first.pid} of " in said
        with pytest.raises(LockHeld, match="another run sets up the same hosts") as caught:
            host.play("docker.yml")
        assert f"process {first.pid} of " in caught.value.tail and caught.value.exit_code == 3
        assert host.touched() == []
        host.on(LET_GO)
        assert first.reaches("apt_source : Install packages")
        assert "for apt: process " in first.log.read_text()
        time.sleep(chance.uniform(1, 6))
        first.kill()

    # apt goes on for a while on the host, and holds its own lock
    with site(host, "third") as third:
        assert third.reaches("docker : Configure the daemon")
        time.sleep(chance.uniform(0, 1))
        third.kill()

    with site(host, "fourth") as fourth:
        fourth.ends()
    assert host.play("verify.yml").changed == 0
    again = host.play("site.yml")
    assert again.changed == 0, again.changes


def test_what_dpkg_was_interrupted_at_is_finished(host: BareHost) -> None:
    """As after a power cut: a package that is unpacked and not set up, and dpkg's journal of its work."""
    package = "socat"
    host.on(
        "ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || apt-get update -q >/dev/null\n"
        f"cd /srv && apt-get download -q {package} && dpkg --unpack {package}_*.deb"
        f" && dpkg-query --status {package} >status && mv status /var/lib/dpkg/updates/0000"
    )
    assert "dpkg was interrupted" in host.on("apt-get install -q -y xxd 2>&1 || true")
    install = {
        "name": "Install",
        "ansible.builtin.include_role": {"name": "slipway.serving.apt_source", "tasks_from": "packages"},
        "vars": {"apt_source_packages": ["xxd"]},
    }
    done = host.play([install])
    assert "apt_source : Finish what dpkg was interrupted at" in {change.task for change in done.changes}
    installed = host.on(f"dpkg-query -W -f '${{db:Status-Status}} ' {package} xxd")
    assert installed.split() == ["installed", "installed"]


def test_a_disk_that_fills_up_meanwhile_is_told_by_what_apt_says(host: BareHost) -> None:
    archives = "/var/cache/apt/archives"
    install = {
        "name": "Install",
        "ansible.builtin.include_role": {"name": "slipway.serving.apt_source", "tasks_from": "packages"},
        "vars": {"apt_source_packages": ["cowsay"], "apt_source_retries": 0},
    }
    # as it is by then: preflight found room
    host.on(f"mount -t tmpfs -o size=16k none {archives} && mkdir {archives}/partial")
    try:
        with pytest.raises(ProvisionError, match="Fail with what apt says") as caught:
            host.play([install], host_free_megabytes=0)
    finally:
        host.on(f"umount {archives}")
    assert "cowsay cannot be installed: " in caught.value.tail
    assert "what to do: make room on the host (apt-get clean)" in caught.value.tail
    assert {change.task for change in host.play([install]).changes} == {"apt_source : Install packages"}
