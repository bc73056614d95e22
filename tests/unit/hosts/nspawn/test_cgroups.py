from __future__ import annotations

from pathlib import Path

from slipway.hosts.nspawn import cgroups

V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/systemd rw,relatime shared:5 - cgroup cgroup rw,xattr,name=systemd
36 31 0:33 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_v1_has_a_folder_in_every_mounted_hierarchy() -> None:
    own = "5:devices:/\n4:memory:/session/one\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n"
    assert cgroups.folders("slip-x-cp", own, V1_MOUNTS) == (
        Path("/sys/fs/cgroup/memory/session/one/slip-x-cp"),
        Path("/sys/fs/cgroup/cpu,cpuacct/slip-x-cp"),
        Path("/sys/fs/cgroup/systemd/slip-x-cp"),
        Path("/sys/fs/cgroup/unified/slip-x-cp"),
    )


def test_v2_has_one_folder() -> None:
    mounts = "26 23 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    assert cgroups.folders("slip-x-cp", "0::/a/b\n", mounts) == (Path("/sys/fs/cgroup/a/b/slip-x-cp"),)


def test_members_are_those_of_all_levels_and_a_missing_group_has_none(tmp_path: Path) -> None:
    (tmp_path / "g/deep").mkdir(parents=True)
    (tmp_path / "g/cgroup.procs").write_text("3\n4\n")
    (tmp_path / "g/deep/cgroup.procs").write_text("4\n5\n0\n")
    assert cgroups.members([tmp_path / "g", tmp_path / "none"]) == {3, 4, 5}
    assert cgroups.end([tmp_path / "none"]) == 0


def test_a_process_outside_the_group_is_not_killed() -> None:
    import os

    cgroups._kill(os.getpid(), {"slip-nobody-cp"})  # would end this very test run
