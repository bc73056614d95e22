"""From wheels to a proved deployment and back: a venv, an empty folder, no checkout."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.hosts.nspawn.labs import lab_name

from tests.lab_traces import traces
from tests.products import Installed

pytestmark = pytest.mark.lab

UP_LIMIT = 2400  # seconds; a stuck chain must not hold the suite for ever
SMALL = ("--set", "hosts.workers=1", "--set", "deploy.replicas=2")


def carried(driver: Installed) -> dict[str, tuple[int, int]]:
    """Path -> (size, time of change) of what the driver's wheel put there, but for what Python compiled."""
    site = next((driver.folder / "lib").glob("python*/site-packages"))
    return {
        str(path.relative_to(site)): (path.stat().st_size, path.stat().st_mtime_ns)
        for package in ("slipway", "slipway_stacks", "slipway_client")
        for path in (site / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_from_wheels_in_an_empty_folder_to_a_proof_and_back(driver: Installed, tmp_path: Path) -> None:
    here = replace(driver, work=tmp_path)
    assert list(tmp_path.iterdir()) == []
    done = here.run("slipway", "init", "--preset", "lab")
    assert done.returncode == 0, done.stderr

    # without the extra it is refused before anything is made, with the command that is typed next
    refused = here.run("slipway", "up", *SMALL)
    assert refused.returncode == 3, refused.stderr
    (typed,) = [line for line in refused.stderr.splitlines() if "what to do: " in line]
    command = shlex.split(typed.partition("what to do: ")[2])
    assert command[-1] == "slipway-serving[train]"
    assert [path.name for path in tmp_path.iterdir()] == ["slipway.yaml"]
    added = subprocess.run(
        [*command, "--quiet", "--no-compile", "--constraint", driver.constraints],
        cwd=tmp_path,
        env=here.variables,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert added.returncode == 0, added.stderr
    listed = json.loads(here.run("python", "-m", "pip", "list", "--format=json").stdout)
    names = {each["name"].lower().replace("_", "-") for each in listed}
    assert len(names & {"tensorflow", "tensorflow-cpu", "tensorflow-intel"}) == 1, names

    before = carried(here)
    assert any(name.endswith("project/playbooks/site.yml") for name in before)
    try:
        up = here.run("slipway", "up", *SMALL, limit=UP_LIMIT)
        assert up.returncode == 0, up.stderr[-6000:]
        assert "proved:   2 replicas" in up.stderr
        assert json.loads((tmp_path / ".slipway" / "runs" / "latest" / "run.json").read_text())["ok"]
        status = here.run("slipway", "status", *SMALL)
        assert status.returncode == 0, status.stderr
        assert "mnist-deployment" in status.stdout
    finally:
        down = here.run("slipway", "down", *SMALL, limit=300)
    assert down.returncode == 0, down.stderr
    assert traces(lab_name(tmp_path / ".slipway")) == []
    assert {path.name for path in tmp_path.iterdir()} == {"slipway.yaml", ".slipway"}
    assert carried(here) == before, "something was written where slipway is installed"
