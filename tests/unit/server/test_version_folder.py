"""Whether a version's folder is whole, and its files at rest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from slipway_client import messages
from slipway_server.codes import StatusError
from slipway_server.version_folder import check_whole, files_of, settled


def graph(*ops: str, restored: bool = True, asset: str = "") -> Any:
    out = messages.MetaGraphDef()
    for number, op in enumerate(ops):
        out.graph_def.node.add(name=f"node_{number}", op=op)
    if restored:
        out.saver_def.restore_op_name = "restore_all"
    if asset:
        out.asset_file_def.add(filename=asset)
    return out


def test_variables_that_are_wanted_and_not_there(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match=r"variables\.index is not there, and the graph has 2 .*node_1"):
        check_whole(tmp_path, graph("Const", "VarHandleOp", "VariableV2"))
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "variables.index").touch()
    check_whole(tmp_path, graph("Const", "VarHandleOp", "VariableV2"))


@pytest.mark.parametrize(
    "whole",
    [
        graph("Const"),  # no variables at all
        graph("VariableV2", restored=False),  # TensorFlow 1's local variables: their own op gives them values
    ],
    ids=["none", "local"],
)
def test_a_graph_that_restores_nothing_needs_no_variables(tmp_path: Path, whole: Any) -> None:
    check_whole(tmp_path, whole)


def test_an_asset_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match=r"assets/vocabulary\.txt is not there"):
        check_whole(tmp_path, graph(asset="vocabulary.txt"))
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "vocabulary.txt").touch()
    check_whole(tmp_path, graph(asset="vocabulary.txt"))


def test_files_are_at_rest_when_the_last_was_changed_before(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    assert not settled(files_of(tmp_path), 3600)
    assert settled(files_of(tmp_path), 0)
    old, now = time.time_ns() - int(2e9), time.time_ns()
    assert settled((("a", 1, now, old), ("b", 1, now, old)), 1)  # copied with the times of its source
    assert not settled((("a", 1, old, old), ("b", 1, old, now)), 1)


def test_an_empty_folder_is_fresh_too(tmp_path: Path) -> None:
    assert not settled(files_of(tmp_path), 3600)


def test_only_the_savedmodels_own_files_count(tmp_path: Path) -> None:
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/warm", "train.log", "logs/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [Path(name).relative_to(tmp_path).as_posix() for name, *_ in files_of(tmp_path)] == [
        "assets.extra/warm",
        "saved_model.pb",
        "variables/variables.index",
    ]
