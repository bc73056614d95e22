"""Hosts made from a golden root and hosts that were bare end up the same, but for what is named here."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Project, new_project

pytestmark = pytest.mark.lab

SNAPSHOT = Path(__file__).with_name("snapshot.py")
# kind -> (pattern of names, why they may differ). Everything else is equal, and there on both.
MAY_DIFFER: dict[str, tuple[tuple[str, str], ...]] = {
    "packages": (),
    "units": (),
    "files": (
        (r"/etc/(hosts|machine-id|hostname|default/kubelet)", "who the host is, and its address"),
        (r"/etc/ssh/ssh_host_.*|/root/\.ssh/.*", "keys of the host and of its lab"),
        (r"/root/\.ansible(_async)?(/.*)?", "where Ansible lays down what some of its modules need"),
        (
            r"/etc/(kubernetes|docker|containerd/certs\.d)/.*",
            "certificates, keys, tokens and addresses of a cluster",
        ),
        (r"/var/lib/docker-registry/docker(/.*)?", "layers that a push finds there"),
        (
            r"/etc/\.updated|/var/lib/apt/extended_states|/usr/lib/slipway-root\.json",
            "when, and in which order",
        ),
    ),
    "settings": (
        (r"fs\.(dentry|file|inode|quota).*|kernel\.(ns_last_pid|pty\.nr|random\..*)", "counters"),
        (r"net\.netfilter\.nf_conntrack_count", "a counter"),
        (
            r"net\.ipv[46]\.(conf|neigh)\.(veth\w+|cni0|docker0|flannel/1)\..*",
            "interfaces of pods that are on that node",
        ),
    ),
    "users": (),
    "groups": (),
}
# A worker has what other roles need, too, as every host from that root. It is off.
OFF = ("docker.service", "docker-registry.service")
OF_USERS = r"/etc/(passwd|group|shadow|gshadow)-?"


def snapshot(project: Project, host: str) -> dict[str, dict[str, Any]]:
    script = base64.b64encode(SNAPSHOT.read_bytes()).decode()
    told: dict[str, dict[str, Any]] = json.loads(
        project.on_host(host, f"echo {script} | base64 -d | python3 -")
    )
    return told


def differences(
    golden: dict[str, dict[str, Any]], bare: dict[str, dict[str, Any]], *, more: bool = False
) -> list[str]:
    """One line for each thing that differs and may not: name, golden's, bare's. more: golden's may have more."""
    out = []
    for kind, excused in MAY_DIFFER.items():
        for name in sorted({*golden[kind], *bare[kind]}):
            there, here = golden[kind].get(name), bare[kind].get(name)
            if there == here or any(re.fullmatch(pattern, name) for pattern, _ in excused):
                continue
            if more and (here is None or re.fullmatch(OF_USERS, name)):
                continue
            out.append(f"{kind}: {name}: {there} | {here}")
    return out


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Project]]:
    """A small lab of each kind, provisioned."""
    made = []
    try:
        for golden in ("true", "false"):
            settings = f"hosts: {{workers: 1, golden: {golden}}}"
            made.append(new_project(tmp_path_factory.mktemp("golden"), settings))
            for words in (["hosts", "up"], ["provision"]):
                done = made[-1].run(*words)
                assert done.code == 0, done.err[-4000:]
        yield made[0], made[1]
    finally:
        for project in made:
            project.take_down()


@pytest.mark.parametrize("host", ["cp", "worker-1"])
def test_a_golden_host_ends_up_as_a_bare_one(both: tuple[Project, Project], host: str) -> None:
    golden, bare = (snapshot(project, host) for project in both)
    assert len(golden["packages"]) > 150
    assert len(golden["files"]) > 3000
    assert differences(golden, bare, more=host != "cp") == []
    if host != "cp":
        assert {name: golden["units"][name] for name in OFF} == dict.fromkeys(OFF, "disabled")


def test_nothing_of_a_host_is_in_the_root(both: tuple[Project, Project]) -> None:
    done = both[0].run("hosts", "bake", "--json")
    assert done.code == 0, done.err[-4000:]
    told = done.document()
    assert told["made"] == 0  # the lab's own: it was made for its hosts, or before
    root = Path(told["root"])
    assert not (root / "etc/machine-id").exists()
    assert not any((root / "var/log").rglob("*.log"))
    keys = [
        path
        for top in ("etc", "home", "root", "opt", "var/lib/kubelet", "var/lib/docker-registry")
        for path in (root / top).rglob("*")
        if path.is_file() and not path.is_symlink() and b"PRIVATE KEY-----" in path.read_bytes()[:4096]
    ]
    assert keys == []
    assert list(root.glob("root/.ssh/*")) == []
