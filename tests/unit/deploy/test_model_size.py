"""A model that the replicas' memory cannot hold is refused by the setting's name and a figure."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway.core.errors import UsageError
from slipway.core.types import ExportedModel
from slipway.deploy.model_size import require_room, size_of

MIB = 1 << 20


def model(folder: Path, mebibytes: int, *beside: ExportedModel, name: str = "mnist") -> ExportedModel:
    """One whose variables say that they have so many bytes; on the disk they take none."""
    (folder / "variables").mkdir(parents=True)
    (folder / "assets.extra").mkdir()
    with (folder / "variables" / "variables.data-00000-of-00001").open("wb") as file:
        file.truncate(mebibytes * MIB)
    with (folder / "assets.extra" / "requests.jsonl").open("wb") as file:
        file.truncate(900 * MIB)  # no server loads it
    return ExportedModel(folder, name, 1, "0", folder / "r", beside=beside)


def manifests(limit: str | None) -> list[dict[str, object]]:
    resources = {"limits": {"memory": limit}} if limit else {}
    pod = {"containers": [{"name": "server", "resources": resources}]}
    return [{"kind": "Service"}, {"kind": "Deployment", "spec": {"template": {"spec": pod}}}]


@pytest.mark.parametrize(
    ("mebibytes", "limit", "server"),
    [
        (1, "1Gi", "portable"),
        (500, "1Gi", "portable"),
        (5000, "6Gi", "portable"),
        (800, "1Gi", "tensorflow"),
        (9000, None, "portable"),
    ],
)
def test_enough_is_not_spoken_of(tmp_path: Path, mebibytes: int, limit: str | None, server: str) -> None:
    assert require_room(manifests(limit), model(tmp_path / "m", mebibytes), server) == ""


@pytest.mark.parametrize(
    ("mebibytes", "limit", "server", "wanted"),
    [
        (800, "1Gi", "portable", "set deploy.memory_limit: 2Gi, and deploy.memory_request: 1536Mi"),
        (
            3300,
            "1073741824",
            "portable",
            "set deploy.memory_limit: 4352Mi, and deploy.memory_request: 3840Mi",
        ),
        (1025, "1Gi", "tensorflow", "set deploy.memory_limit: 2304Mi, and deploy.memory_request: 1792Mi"),
    ],
)
def test_what_cannot_fit_is_refused(
    tmp_path: Path, mebibytes: int, limit: str, server: str, wanted: str
) -> None:
    with pytest.raises(UsageError) as refused:
        require_room(manifests(limit), model(tmp_path / "m", mebibytes), server)
    assert (refused.value.where, refused.value.action) == ("deploy.memory_limit", wanted)
    assert f"mnist takes {mebibytes:,} MiB of memory" in refused.value.what
    assert "ended at 1,024 MiB" in refused.value.what


def test_little_room_is_told_with_a_figure(tmp_path: Path) -> None:
    said = require_room(manifests("1Gi"), model(tmp_path / "m", 600), "portable")
    assert said == (
        "mnist takes 600 MiB of memory of 1,024 MiB, which leaves 104 MiB for requests; "
        "deploy.memory_limit: 1792Mi leaves more"
    )


def test_all_models_of_a_server_count(tmp_path: Path) -> None:
    other = model(tmp_path / "other", 400, name="letters")
    both = model(tmp_path / "m", 400, other)
    assert size_of(both.served) == 800 * MIB
    with pytest.raises(
        UsageError, match="mnist and letters take 800 MiB of memory, the server beside them 320"
    ):
        require_room(manifests("1Gi"), both, "portable")


def test_files_that_are_elsewhere_are_not_judged(tmp_path: Path) -> None:
    gone = ExportedModel(tmp_path / "gone", "mnist", 1, "0", tmp_path / "r")
    assert require_room(manifests("1Gi"), gone, "portable") == ""
