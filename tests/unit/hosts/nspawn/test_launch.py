from __future__ import annotations

from pathlib import Path

from slipway.hosts.nspawn.launch import Launch, nspawn_argv, service_argv, supervised_argv

LAUNCH = Launch(
    "slip-abc123-cp", "cp", Path("/s/hosts/cp"), Path("/c/root"), "slip-abc123-cp", ("/dev/kmsg", "/dev/fuse")
)


def test_without_systemd_a_supervisor_in_its_own_cgroups_and_session() -> None:
    argv = supervised_argv(
        LAUNCH, [Path("/sys/fs/cgroup/pids/slip-abc123-cp"), Path("/sys/fs/cgroup/cpu/slip-abc123-cp")]
    )
    assert argv[:2] == ["setsid", "--fork"]
    assert "SYSTEMD_NSPAWN_API_VFS_WRITABLE=1" in argv
    script = next(at for at, word in enumerate(argv) if word.endswith("supervise.sh"))
    end = argv.index("--")
    assert Path(argv[script]).is_file()
    assert argv[script + 1 : end] == [
        "/s/hosts/cp/console.log",
        "/s/hosts/cp/pid",
        "/sys/fs/cgroup/pids/slip-abc123-cp",
        "/sys/fs/cgroup/cpu/slip-abc123-cp",
    ]
    assert argv[end + 1 : end + 4] == ["unshare", "--mount", "--propagation=slave"]
    assert argv[-len(nspawn_argv(LAUNCH)) :] == nspawn_argv(LAUNCH)


def test_with_systemd_a_transient_service_with_a_delegated_cgroup() -> None:
    argv = service_argv(LAUNCH, "slip-abc123-cp.service")
    assert argv[0] == "systemd-run"
    for wanted in (
        "--unit=slip-abc123-cp.service",
        "--property=Delegate=yes",
        "--property=KillMode=mixed",
        "--property=RestartForceExitStatus=133",
        "--property=SuccessExitStatus=133",
        "--property=StandardOutput=append:/s/hosts/cp/console.log",
        "--setenv=SYSTEMD_NSPAWN_API_VFS_WRITABLE=1",
        "--setenv=SYSTEMD_SECCOMP=0",
    ):
        assert wanted in argv
    assert "--scope" not in argv
    assert argv[-len(nspawn_argv(LAUNCH)) :] == nspawn_argv(LAUNCH)


def test_nspawn_runs_in_the_hosts_network_and_binds_what_engines_need() -> None:
    argv = nspawn_argv(LAUNCH)
    assert argv[:3] == ["nsenter", "--net=/run/netns/slip-abc123-cp", "systemd-nspawn"]
    for wanted in (
        "--register=no",
        "--keep-unit",
        "--capability=all",
        "--machine=slip-abc123-cp",
        "--hostname=cp",
    ):
        assert wanted in argv
    assert [word for word in argv if word.startswith("--bind=/dev")] == [
        "--bind=/dev/kmsg",
        "--bind=/dev/fuse",
    ]
    for engine in ("docker", "containerd", "kubelet", "lxd"):
        assert f"--bind=/s/hosts/cp/volumes/{engine}:/var/lib/{engine}" in argv
    assert argv[-1] == "/usr/lib/slipway-init"


def test_a_colon_in_a_path_does_not_end_a_bind() -> None:
    odd = Launch("m", "h", Path("/a:b"), Path("/c"), "n", ())
    assert "--bind=/a\\:b/volumes/docker:/var/lib/docker" in nspawn_argv(odd)
