"""Several models on the command line: all of them, one by --model, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway import pipeline
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Cluster, ImageRef
from slipway.deploy import declaration, deployed, leaving
from slipway.deploy.deployed import Earlier
from slipway.deploy.stage import Deploy
from slipway_stacks.outputs import Names

Said = tuple[int, str, str]
CLUSTER = Cluster(Path("kubeconfig"), Path("kubectl"), "", (), None)


def image(name: str) -> ImageRef:
    return ImageRef(f"reg:5000/slipway/{name}", "sha256:ab", "1", "portable", name, 1, "00")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """Two models with images, deployed, and one of earlier settings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slipway.yaml").write_text("models: {mnist: {}, other: {deploy: {replicas: 1}}}\n")
    state = State(tmp_path / ".slipway")
    state.keep(CLUSTER)
    for name in ("mnist", "other", "old"):
        state.of(name).keep(image(name))
        ctx = Context(state.of(name), tmp_path, tmp_path)
        deployed.remember(ctx, Earlier("serving", "render", Names(name).deployment))
    return state


@pytest.fixture
def slipway(
    slipway: Callable[..., int], state: State, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """`slipway WORDS`: exit code, stdout, stderr."""

    def run(*words: str) -> Said:
        code = slipway(*words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize(
    "words",
    [
        *(["up"], ["deploy"], ["preview"], ["render"], ["destroy"], ["smoke"], ["env"]),
        *(["image", "build"], ["image", "verify"], ["model", "train"], ["model", "export"]),
        *(["model", "save", "a.h5"], ["model", "restore", "a.h5"], ["smoke", "--server", "127.0.0.1:1"]),
    ],
    ids=" ".join,
)
def test_a_model_that_there_is_not_is_refused(slipway: Callable[..., Said], words: list[str]) -> None:
    code, out, err = slipway(*words, "--model", "mnst")
    assert (code, out) == (2, "")
    assert "there is no model mnst" in err and "the settings have mnist, other" in err


@pytest.mark.parametrize(
    "words",
    [
        *(["image", "verify"], ["model", "save", "a.h5"], ["model", "restore", "a.h5"]),
        *(["model", "export", "--from", "w.h5"], ["smoke", "--requests", "r.jsonl"]),
        ["smoke", "--server", "127.0.0.1:1"],
    ],
    ids=" ".join,
)
def test_what_is_about_one_model_wants_its_name(
    slipway: Callable[..., Said], tmp_path: Path, words: list[str]
) -> None:
    for name in ("w.h5", "r.jsonl"):
        (tmp_path / name).write_text("")
    code, out, err = slipway(*words)
    assert (code, out) == (2, "")
    assert "there are 2 models" in err and "--model mnist or other" in err


@pytest.mark.parametrize(
    "words", [["up"], ["deploy"], ["smoke"], ["image", "build"], ["model", "train"]], ids=" ".join
)
def test_the_chain_is_told_which_model(
    slipway: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    asked: list[str] = []

    def run(ctx: Context, settings: Settings, *, only: str, **_: Any) -> pipeline.Ended:
        asked.append(only)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "require_ready", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "run", run)
    assert slipway(*words)[0] == slipway(*words, "--model", "other")[0] == 130
    assert asked == ["", "other"]


def test_a_preview_tells_each_model_and_what_would_go(
    slipway: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(_: Deploy, ctx: Context, settings: Settings, cluster: Cluster, made: ImageRef) -> list[str]:
        assert (ctx.state.model, settings.model.name) == (made.model_name, made.model_name)
        return [f"change Deployment {made.model_name}-deployment"]

    monkeypatch.setattr(Deploy, "plan", plan)
    _, out, _ = slipway("preview")
    assert [line.partition(":")[0] for line in out.splitlines()] == ["mnist", "other", "old"]
    assert "old: take away old-deployment" in out
    assert list(json.loads(slipway("preview", "--json")[1])) == ["mnist", "other", "old"]
    assert slipway("preview", "--model", "other")[1] == "other: change Deployment other-deployment\n"


def test_manifests_of_each_model_are_printed(
    slipway: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"kind": "Namespace"}
    monkeypatch.setattr(declaration, "render", lambda _ctx, settings, made: [space, {"of": made.model_name}])
    assert json.loads(slipway("render", "--json")[1]) == [space, {"of": "mnist"}, {"of": "other"}]
    assert slipway("render", "--model", "other")[1] == "kind: Namespace\n---\nof: other\n"


@pytest.mark.parametrize(
    ("words", "gone"),
    [([], ["mnist", "old", "other"]), (["--model", "other"], ["other"]), (["--model", "old"], ["old"])],
)
def test_deployments_are_removed_all_or_one(
    slipway: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, words: list[str], gone: list[str]
) -> None:
    monkeypatch.setattr(leaving, "destroy", lambda ctx, *_: [f"remove {ctx.state.model}"])
    assert json.loads(slipway("destroy", "--json", *words)[1]) == {
        "removed": [f"remove {name}" for name in gone]
    }


def test_a_shell_is_for_one_model_s_stack(slipway: Callable[..., Said]) -> None:
    assert "PULUMI_STACK" not in json.loads(slipway("env", "--json")[1])
    variables = json.loads(slipway("env", "--json", "--model", "other")[1])
    assert variables["PULUMI_STACK"].endswith("-other")


def test_what_is_a_models_own_is_listed_with_its_source(slipway: Callable[..., Said]) -> None:
    rows = {row["key"]: row for row in json.loads(slipway("settings", "--json")[1])}
    row = rows["models.other.deploy.replicas"]
    assert (row["value"], row["variable"], row["source"].rpartition("/")[2]) == (1, None, "slipway.yaml:1")
    assert row["meaning"] == rows["deploy.replicas"]["meaning"]
    assert "models.other.deploy.replicas = 1" in slipway("settings")[1]


def test_any_server_is_asked_for_any_name(slipway: Callable[..., Said]) -> None:
    words = ("smoke", "--server", "127.0.0.1:1", "--model-name")
    code, _, err = slipway(*words, "whatever")
    assert code == 2
    assert "nothing says what to ask 127.0.0.1:1" in err
    code, _, err = slipway(*words, "a/b")
    assert code == 2
    assert "--model-name a/b: expected letters" in err
