"""The Vagrantfile before Vagrant itself. Machines are made of it where there are hypervisors, not here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from slipway.core import process

from tests.integration.hosts.debian_package import unpacked

ROOT = Path(__file__).parents[3]
Validate = Callable[[Mapping[str, str]], process.Completed]


@pytest.fixture(scope="module")
def validate(tmp_path_factory: pytest.TempPathFactory) -> Validate:
    """`vagrant validate`, of the installed one or of the distribution's package, which is not installed."""
    folder = tmp_path_factory.mktemp("vagrant")
    home = {
        "HOME": str(folder),
        "VAGRANT_HOME": str(folder / "home"),
        "VAGRANT_DOTFILE_PATH": str(folder / "data"),
    }
    words = ["vagrant", "validate", "--ignore-provider"]
    if shutil.which("vagrant") is None:
        root = unpacked("vagrant", folder, with_needed=True)
        places = [
            path for path in (*root.glob("usr/lib/ruby/*"), *root.glob("usr/lib/*/ruby/*")) if path.is_dir()
        ]
        places += root.glob("usr/lib/*/ruby/vendor_ruby/*")
        gems = [
            path
            for place in ("share/rubygems-integration", "lib/*/rubygems-integration", "lib/ruby/gems")
            for path in root.glob(f"usr/{place}/*")
        ]
        home |= {
            "PATH": f"{root / 'usr/bin'}{os.pathsep}{os.environ['PATH']}",
            "RUBYLIB": os.pathsep.join(map(str, places)),
            "GEM_PATH": os.pathsep.join(map(str, gems)),
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, root.glob("usr/lib/*-linux-gnu*"))),
        }
        words = ["ruby", str(root / "usr/bin/vagrant"), *words[1:]]
    return lambda more: process.run(words, cwd=ROOT, env={**home, **more}, check=False, timeout=120)


def test_vagrant_takes_it(validate: Validate) -> None:
    done = validate({})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Vagrantfile validated successfully" in done.stdout
    for name in ("cp", "worker-1", "worker-2"):
        assert f"==> {name}:" in done.stdout


def test_a_setting_that_there_is_not_is_noticed(validate: Validate, tmp_path: Path) -> None:
    text = (ROOT / "Vagrantfile").read_text(encoding="utf-8")
    (tmp_path / "Vagrantfile").write_text(text.replace("ansible.groups", "ansible.group"))
    done = validate({"VAGRANT_CWD": str(tmp_path)})
    assert done.returncode != 0
    assert "group" in done.stdout + done.stderr


def test_it_is_small_enough_to_read() -> None:
    assert len((ROOT / "Vagrantfile").read_text(encoding="utf-8").splitlines()) <= 50
