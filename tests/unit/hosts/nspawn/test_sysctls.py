from __future__ import annotations

from pathlib import Path

from slipway.hosts.nspawn import sysctls


def proc(folder: Path, **values: str) -> Path:
    for name, value in values.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value + "\n")
    return folder


def test_low_limits_are_raised_and_put_back(tmp_path: Path) -> None:
    root = proc(
        tmp_path,
        fs__inotify__max_user_instances="128",
        fs__inotify__max_user_watches="999999",
    )
    found = sysctls.before([], root)
    assert found["fs.inotify.max_user_instances"] == "128"
    assert sysctls.too_low(root) == {"fs.inotify.max_user_instances": "8192"}
    assert sysctls.put(sysctls.too_low(root), root) == ["fs.inotify.max_user_instances"]
    assert sysctls.too_low(root) == {}
    assert sysctls.put_back(found, root) == ["fs.inotify.max_user_instances"]
    assert (root / "fs/inotify/max_user_instances").read_text() == "128\n"
    assert (root / "fs/inotify/max_user_watches").read_text() == "999999\n"


def test_what_the_owner_sets_anew_while_a_lab_is_up_stays(tmp_path: Path) -> None:
    root = proc(tmp_path, fs__inotify__max_user_instances="128", fs__inotify__max_user_watches="65536")
    found = sysctls.before([], root)
    sysctls.put(sysctls.too_low(root), root)
    (root / "fs/inotify/max_user_watches").write_text("1048576\n")
    assert sysctls.put_back(found, root) == ["fs.inotify.max_user_instances"]
    assert (root / "fs/inotify/max_user_watches").read_text() == "1048576\n"


def test_what_another_lab_found_counts_and_not_what_it_made_of_it(tmp_path: Path) -> None:
    root = proc(tmp_path, fs__inotify__max_user_instances="8192", fs__inotify__max_user_watches="600000")
    found = sysctls.before([{"fs.inotify.max_user_instances": "128"}, {}], root)
    assert found["fs.inotify.max_user_instances"] == "128"
    assert found["fs.inotify.max_user_watches"] == "600000"
