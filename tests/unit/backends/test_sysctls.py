from __future__ import annotations

from pathlib import Path

from infra.backends import sysctls


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
        kernel__panic="0",
    )
    found = sysctls.before([], root)
    assert found["fs.inotify.max_user_instances"] == "128"
    assert sysctls.too_low(root) == {"fs.inotify.max_user_instances": "8192"}
    assert sysctls.put(sysctls.too_low(root), root) == ["fs.inotify.max_user_instances"]
    assert sysctls.too_low(root) == {}
    (root / "kernel/panic").write_text("10\n")  # as kubelet does
    assert sorted(sysctls.put(found, root)) == ["fs.inotify.max_user_instances", "kernel.panic"]
    assert (root / "kernel/panic").read_text() == "0\n"


def test_what_another_lab_found_counts_and_not_what_it_made_of_it(tmp_path: Path) -> None:
    root = proc(tmp_path, fs__inotify__max_user_instances="8192", kernel__panic="10")
    found = sysctls.before([{"fs.inotify.max_user_instances": "128"}, {}], root)
    assert found["fs.inotify.max_user_instances"] == "128"
    assert found["kernel.panic"] == "10"
