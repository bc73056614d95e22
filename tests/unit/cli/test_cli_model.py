"""`slipway model` as it is typed: --from, what `up` would do next, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from slipway.model import tasks
from slipway.model.mnist import perceptron

Said = tuple[int, str, str]


@pytest.fixture
def slipway(
    slipway: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Said]:
    """`slipway WORDS` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Said:
        code = slipway(*words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkpoint's name, with TensorFlow's part of restoring and exporting played by numpy and a folder."""

    def play(task: str, arguments: Mapping[str, Any], *_rest: object, **_named: object) -> dict[str, Any]:
        if task == "restore":
            perceptron.save_weights(Path(arguments["weights"]), perceptron.initial(5))
            return {"restored": ["all"], "kept": [], "accuracy": 0.1, "steps": None}
        Path(arguments["target"]).mkdir()
        Path(arguments["out"]).write_text(Path(arguments["requests"]).read_text())
        return {}

    monkeypatch.setattr(tasks, "run", play)
    (tmp_path / "w.ckpt.index").write_bytes(b"index")
    (tmp_path / "w.ckpt.data-00000-of-00001").write_bytes(b"data")
    return tmp_path / "w.ckpt"


def versions(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".slipway" / "models" / "mnist").iterdir())


def test_from_exports_given_weights_and_says_what_up_would_do(
    slipway: Callable[..., Said], checkpoint: Path, tmp_path: Path
) -> None:
    code, out, err = slipway("model", "export", "--from", "w.ckpt", "--json")
    assert code == 0
    assert "with the weights of w.ckpt" in json.loads(out)["stages"][1]["reason"] + err
    assert err.splitlines()[-1] == (
        "`slipway up` trains again unless slipway.yaml says `model: {weights: w.ckpt}`"
    )
    assert versions(tmp_path) == ["1"]
    (tmp_path / "slipway.yaml").write_text("model: {weights: w.ckpt}\n")
    for words in (["model", "export"], ["model", "export", "--from", "w.ckpt"]):
        code, _, err = slipway(*words)
        assert code == 0
        assert "mnist version 1 unchanged" in err
        assert "trains again" not in err
    (tmp_path / "w.ckpt.data-00000-of-00001").write_bytes(b"other data")
    assert "mnist version 1 unchanged" in slipway("model", "export")[2]  # the same weights in another file


def test_train_refuses_given_weights(slipway: Callable[..., Said], checkpoint: Path, tmp_path: Path) -> None:
    code, _, err = slipway("model", "train", "--set", "model.weights=w.ckpt")
    assert code == 2
    assert not (tmp_path / ".slipway").exists()
    assert f"model.weights brings {checkpoint}, so nothing would be trained" in err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["export", "--from", "none.ckpt"], 2, "nor a checkpoint of that name (none.ckpt.index)"),
        (["export", "--from", "m.json"], 2, "holds an architecture and no weights"),
        (["restore", "m.json", "--epochs", "-1"], 2, "--epochs"),
        (["restore", "x", "--rename", "a"], 2, "expected NAME_IN_FILE=VARIABLE"),
        (["inspect", "nothing"], 5, "nothing is not a SavedModel: it does not exist"),
    ],
)
def test_what_means_nothing_is_refused_in_words(
    slipway: Callable[..., Said], tmp_path: Path, words: list[str], code: int, says: str
) -> None:
    (tmp_path / "m.json").write_text("{}")
    ended, out, err = slipway("model", *words)
    assert (ended, out) == (code, "")
    assert says in err
    assert "Traceback" not in err
