from __future__ import annotations

import os
import platform
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.clients.kubectl import Kubectl
from slipway.core import extras
from slipway.core.context import Context
from slipway.core.errors import CommandError
from slipway.core.schema import DeploySettings, HostsSettings, Settings
from slipway.core.state import State
from slipway.core.types import Cluster, Host, Hosts
from slipway.status.doctor import Check, examine

CLUSTER = Cluster(Path("kubeconfig"), Path("kubectl"), "https://10.77.2.2:6443", (), None)
PRESSED = {
    "metadata": {"name": "worker-1"},
    "status": {"conditions": [{"type": "DiskPressure", "status": "True"}]},
}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _no_apt_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.clients.apt.own_options", lambda _proxy: {})
    monkeypatch.setattr("slipway.clients.apt.own_origins", dict)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(State(tmp_path / "s"), tmp_path / "run", tmp_path, cache=tmp_path / "c")


def find(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_no_root_matters_for_hosts_made_here_only(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    own = find(examine(ctx, Settings()), "root")
    assert (own.ok, own.needed) == (False, True)
    assert "run as root" in own.line()
    theirs = Settings(hosts=HostsSettings(backend="ssh", inventory=tmp_path))
    assert find(examine(ctx, theirs), "root").needed is False


def test_what_hosts_will_not_verify_is_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(examine(ctx, Settings()), "verification").ok
    off = {"Acquire::https::Verify-Peer": "false"}
    monkeypatch.setattr("slipway.clients.apt.own_options", lambda _proxy: off)
    check = find(examine(ctx, Settings()), "verification")
    assert (check.ok, check.needed) == (False, False)
    assert "Acquire::https::Verify-Peer false" in check.line()
    assert "switch it on here" in check.line()


def test_too_little_disk_is_told_with_what_is_needed(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**11, 10**11, 3 * 10**9))
    check = find(examine(ctx, Settings()), "disk for state")
    assert not check.ok
    assert check.line().startswith("missing")
    assert "3 GB free" in check.line()
    # three hosts, what their kubelets want free, and the cache are on one disk
    assert "14 GB are needed (below 1.1 GB a lab's kubelets evict every pod)" in check.line()


def test_a_lab_that_is_made_needs_what_keeps_its_pods_running(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """14 % of a disk or 1 %: what counts is bytes, for doctor as for the lab's kubelets."""
    machines = tuple(Host(name, "192.0.2.1", "root", "k", ()) for name in ("cp", "worker-1", "worker-2"))
    ctx.state.keep(Hosts("nspawn", machines))
    for free, ok in ((3 * 10**9, True), (2 * 10**9, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: Usage(10**12, 10**12, free))
        checks = examine(ctx, Settings())
        assert [find(checks, f"disk for {name}").ok for name in ("state", "cache")] == [ok, ok]
    more = find(examine(ctx, Settings(hosts=HostsSettings(workers=4))), "disk for state")
    assert more.action.startswith("8 GB are needed")


@pytest.mark.parametrize(
    ("workers", "apart", "state", "cache"),
    [(5, False, 23, 23), (5, True, 20, 3), (None, False, 4, 4), (None, True, 1, 3)],
)
def test_the_disk_needed_follows_from_hosts_and_disks(
    ctx: Context,
    tmp_path: Path,
    workers: int | None,
    apart: bool,
    state: int,
    cache: int,
) -> None:
    theirs = HostsSettings(backend="ssh", inventory=tmp_path)
    hosts = theirs if workers is None else HostsSettings(workers=workers)
    if apart:  # a file system of its own, as every Linux has it here
        ctx = replace(ctx, cache=Path("/proc/none"))
    checks = examine(ctx, Settings(hosts=hosts))
    for name, size in (("state", state), ("cache", cache)):
        assert find(checks, f"disk for {name}").action.startswith(f"{size} GB are needed")


def test_what_pulumis_absence_costs_follows_from_how_is_deployed(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "deployed with kubectl instead" in find(examine(ctx, Settings()), "pulumi").line()
    asked = find(examine(ctx, Settings(deploy=DeploySettings(by="engine"))), "pulumi")
    assert asked.line().startswith("absent ")  # the deploy stage gets it
    assert "deploy.by: engine gets it first" in asked.line()


def test_machines_of_vagrant_and_in_a_cloud_need_something_here(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    vagrant = examine(ctx, Settings(hosts=HostsSettings(backend="vagrant")))
    assert find(vagrant, "vagrant").line().startswith("missing  vagrant ")
    hetzner = Settings(hosts=HostsSettings(backend="pulumi", cloud="hetzner"))
    assert find(examine(ctx, hetzner), "cloud").ok
    monkeypatch.setattr(extras, "missing", lambda extra: (extra,))
    assert "the extra `hetzner` is not installed" in find(examine(ctx, hetzner), "cloud").line()
    names = {check.name for check in examine(ctx, Settings())}
    assert not {"cloud", "vagrant"} & names


def test_whatever_is_absent_says_what_that_costs(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(extras, "missing", lambda _name: ("tensorflow",))
    (tmp_path / "config").touch()
    brought = {"cluster": {"kubeconfig": tmp_path / "config"}, "model": {"path": tmp_path}}
    ctx.state.keep(CLUSTER)
    monkeypatch.setattr(Kubectl, "get", lambda *_args, **_more: {"items": [PRESSED]})
    absent = [check for check in examine(ctx, Settings.model_validate(brought)) if not check.ok]
    assert {check.name for check in absent} >= {
        *("system", "root", "ssh", "packages", "training", "go", "pulumi", "nodes"),
    }
    for check in absent:
        assert check.cost in check.line()
        assert check.cost
        assert not check.needed


def test_a_node_that_takes_no_pods_is_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx.state.keep(CLUSTER)
    monkeypatch.setattr(Kubectl, "get", lambda *_args, **_more: {"items": [PRESSED]})
    line = find(examine(ctx, Settings()), "nodes").line()
    assert line.startswith("faulty   nodes            node worker-1 has DiskPressure; what runs there may be")
    assert "free disk on the machine behind the node" in line
    monkeypatch.setattr(Kubectl, "get", lambda *_args, **_more: {"items": []})
    assert find(examine(ctx, Settings()), "nodes").ok


def test_a_cluster_that_does_not_answer_is_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: object, **_more: object) -> None:
        raise CommandError(("kubectl",), 1, "connection refused")

    ctx.state.keep(CLUSTER)
    monkeypatch.setattr(Kubectl, "get", refused)
    assert "the cluster does not answer" in find(examine(ctx, Settings()), "nodes").line()


def test_what_a_lab_is_not_is_said_where_one_is_made(ctx: Context, tmp_path: Path) -> None:
    said = find(examine(ctx, Settings()), "lab hosts")
    assert "root in one of them is root on this machine" in said.line()
    theirs = Settings(hosts=HostsSettings(backend="ssh", inventory=tmp_path))
    assert [check for check in examine(ctx, theirs) if check.name == "lab hosts"] == []


def test_nothing_is_made_by_looking(ctx: Context, tmp_path: Path) -> None:
    examine(ctx, Settings())
    assert list(tmp_path.iterdir()) == []


def test_what_models_from_elsewhere_need_is_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(examine(ctx, Settings()), "models from elsewhere").ok
    monkeypatch.setattr(
        extras, "missing", lambda extra: (extra,) if extra in ("remote", "signatures") else ()
    )
    for path, needed in (("s3://bucket/mnist", True), ("oci://r.example/mnist:1", False), (None, False)):
        settings = Settings.model_validate({"model": {"path": path}})
        check = find(examine(ctx, settings), "models from elsewhere")
        assert (check.ok, check.needed) == (False, needed)
        assert "`remote` and `signatures` are not installed" in check.line()
