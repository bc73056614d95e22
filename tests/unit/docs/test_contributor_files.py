"""Workflows and hooks call the project's own commands, fetch nothing and end by themselves."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_githubs_workflow_calls_ci_run_and_no_action_but_checkout() -> None:
    for job in read(".github/workflows/ci.yml")["jobs"].values():
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/checkout@v\d+\.\d+\.\d+", action) for action in used)
        assert [step["run"] for step in job["steps"] if "run" in step] == ["sudo .ci/run"]
        assert 75 < job["timeout-minutes"] <= 180  # 75: a new machine with everything to compile


def test_gitlabs_workflow_calls_ci_run() -> None:
    (job,) = read(".gitlab-ci.yml").values()
    assert job["script"] == ['if [ "$(id -u)" = 0 ]; then .ci/run; else sudo .ci/run; fi']
    assert job["timeout"] == "2h 30m"


def test_ci_run_is_lint_and_the_tests() -> None:
    path = ROOT / ".ci" / "run"
    assert path.stat().st_mode & 0o111
    assert re.findall(r"^make \w+", path.read_text(encoding="utf-8"), re.M) == ["make lint", "make test"]


def test_pre_commit_fetches_nothing() -> None:
    for repository in read(".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            assert hook["entry"].startswith(".venv/bin/")


def test_pre_commit_calls_what_make_lint_calls() -> None:
    (lint,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for repository in read(".pre-commit-config.yaml")["repos"]:
        for hook in repository["hooks"]:
            assert f"$(BIN)/{hook['entry'].split()[0].rpartition('/')[2]}" in lint


def test_the_licence_is_apaches_own_text() -> None:
    # sha256 of https://www.apache.org/licenses/LICENSE-2.0.txt
    published = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == published
