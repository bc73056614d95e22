"""Settings: precedence, relative paths, and every mistake reported at once (cases/settings/)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from slipway.cli import app
from slipway.core.errors import UsageError
from slipway.core.schema import Settings, leaves
from slipway.settings.read import Request, read
from slipway.settings.sources import model_and_key, variable

CASES = sorted((Path(__file__).parents[2] / "cases" / "settings").glob("*.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_case(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case's settings are refused with all its `problems` and no others, with its `error`, or `accepted`."""
    monkeypatch.chdir(tmp_path)
    given = yaml.safe_load(case.read_text())
    config = Path("slipway.yaml")
    config.write_bytes(given["yaml"].encode(given.get("encoding", "utf-8")))
    request = Request(config, given.get("environment", {}), tuple(given.get("flags", ())))
    if "accepted" in given:
        settings, sources = read(request)
        for key, value in given["accepted"].items():
            model, leaf = model_and_key(key)
            section, name = leaf.split(".")
            told = settings.of(model).model_dump(mode="json")[section][name]
            assert (key, told) == (
                key,
                value.replace("{cwd}", str(tmp_path)) if isinstance(value, str) else value,
            )
            assert key in sources or model
        return
    with pytest.raises(UsageError) as caught:
        read(request)
    assert caught.value.exit_code == 2
    if "error" in given:
        assert caught.value.what.startswith(given["error"])
        return
    lines = caught.value.tail.splitlines()
    for problem in given["problems"]:
        expected = problem.replace("{cwd}", str(tmp_path))
        assert any(line.startswith(expected) for line in lines), f"{expected!r} not in {lines}"
    assert len(lines) == len(given["problems"])


def test_cases_exist() -> None:
    assert len(CASES) >= 6


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "slipway.yaml"
    config.write_text("hosts: {workers: 1, mtu: 1300}\nmodel: {epochs: 3}\n")
    environment = {"SLIPWAY_HOSTS_WORKERS": "2", "SLIPWAY_HOSTS_MTU": "1301", "SLIPWAY_CACHE": "/x"}
    settings, sources = read(Request(config, environment, ("hosts.workers=5",)))
    assert (settings.hosts.workers, settings.hosts.mtu, settings.model.epochs) == (5, 1301, 3)
    assert sources["hosts.workers"].where == "--set hosts.workers"
    assert sources["hosts.mtu"].where == "SLIPWAY_HOSTS_MTU"
    assert sources["model.epochs"].where == f"{config}:2"
    assert settings.hosts.backend == "nspawn"


def test_models_beside_are_named_by_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("digits", "letters/3", "half plus", "mnist", "again/digits"):
        (tmp_path / name).mkdir(parents=True)
    config = tmp_path / "slipway.yaml"
    config.write_text("model: {beside: [digits, ./letters/3]}\n")
    monkeypatch.chdir("/")
    settings, _ = read(Request(config))
    assert settings.model.named_beside() == (
        ("digits", tmp_path / "digits"),
        ("letters", tmp_path / "letters" / "3"),
    )
    monkeypatch.chdir(tmp_path)
    settings, _ = read(Request(config, {"SLIPWAY_MODEL_BESIDE": "digits"}))
    assert settings.model.named_beside() == (("digits", tmp_path / "digits"),)
    with pytest.raises(UsageError) as caught:
        read(Request(config, flags=("model.beside=digits,half plus,mnist,again/digits",)))
    assert [
        line.partition(f"{tmp_path}/")[2].partition(",")[0] for line in caught.value.tail.splitlines()
    ] == [
        "half plus: its folder's name is no model's: letters",
        "mnist: there is another model called mnist; a server tells them apart by name",
        "again/digits: there is another model called digits; a server tells them apart by name",
    ]
    with pytest.raises(UsageError, match="a problem"):
        read(Request(config, flags=("model.beside=nowhere",)))


def several(tmp_path: Path, text: str, *flags: str) -> Settings:
    config = tmp_path / "slipway.yaml"
    config.write_text(text)
    return read(Request(config, flags=flags))[0]


def test_without_models_there_is_one_without_a_name(tmp_path: Path) -> None:
    for text in ("", "models:\n", "models: {}\n"):
        settings = several(tmp_path, text)
        assert settings == Settings()
        assert settings.each() == settings.each("mnist") == (("", settings),)
        with pytest.raises(UsageError, match="there is no model other") as caught:
            settings.each("other")
        assert caught.value.action == "the settings have mnist"


def test_models_come_in_the_order_of_the_file_or_one_by_name(tmp_path: Path) -> None:
    settings = several(tmp_path, "models: {b: {}, a: {deploy: {replicas: 1}}}\n")
    assert [name for name, _ in settings.each()] == ["b", "a"]
    ((name, one),) = settings.each("a")
    assert (name, one.model.name, one.deploy.replicas) == ("a", "a", 1)
    assert one.models == settings.models  # a stage can tell what the settings name
    with pytest.raises(UsageError, match="there is no model c") as caught:
        settings.each("c")
    assert caught.value.action == "the settings have b, a"


def test_an_image_of_the_files_own_repository_is_every_models(tmp_path: Path) -> None:
    settings = several(
        tmp_path, "image: {repository: team/models}\nmodels: {a: {}, b: {image: {repository: b}}}\n"
    )
    assert {name: one.image.repository for name, one in settings.each()} == {"a": "team/models", "b": "b"}


def test_the_schema_has_a_models_sections() -> None:
    schema = Settings.model_json_schema()
    (entry,) = schema["properties"]["models"]["patternProperties"].values()
    assert list(schema["$defs"][entry["$ref"].rpartition("/")[2]]["properties"]) == [
        "model",
        "image",
        "deploy",
        "smoke",
    ]


def test_paths_are_relative_to_the_file_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = tmp_path / "project" / "slipway.yaml"
    config.write_text("model: {data: data}\n")
    assert read(Request(config))[0].model.data == tmp_path / "project" / "data"
    with pytest.raises(UsageError, match="a problem"):
        read(Request(None, {"SLIPWAY_MODEL_DATA": "data"}))


def test_an_address_is_not_a_path_and_lists_may_be_numbers_or_empty() -> None:
    address = "https://example.com/mnist/"
    model = read(Request(None, {"SLIPWAY_MODEL_DATA": address, "SLIPWAY_MODEL_HIDDEN": "64, 32"}))[0].model
    assert (model.data, model.hidden) == (address, (64, 32))
    assert read(Request(None, {}, ("model.hidden=",)))[0].model.hidden == ()


def test_a_checkpoint_is_named_by_its_prefix(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt.index").touch()
    settings = read(Request(None, {}, (f"model.weights={tmp_path / 'model.ckpt'}",)))[0]
    assert settings.model.weights == tmp_path / "model.ckpt"


def test_lists_are_comma_separated_outside_the_file() -> None:
    settings, _ = read(Request(None, {"SLIPWAY_ARTIFACTS_SOURCES": "modules, release"}))
    assert settings.artifacts.sources == ("modules", "release")


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    config = tmp_path / "slipway.yaml"
    config.write_text("# nothing\nhosts:\n")
    assert read(Request(config)) == (Settings(), {})


def test_text_that_is_not_yaml_names_its_line(tmp_path: Path) -> None:
    config = tmp_path / "slipway.yaml"
    config.write_text("hosts:\n  workers: [1\n")
    with pytest.raises(UsageError, match=r"slipway\.yaml:\d+: not YAML") as caught:
        read(Request(config))
    assert "slipway settings" in caught.value.action


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read(Request(tmp_path / "none.yaml"))


def test_every_setting_says_what_it_means_and_has_its_own_variable() -> None:
    fields = leaves()
    assert all(info.description for info in fields.values())
    assert len({variable(key) for key in fields}) == len(fields)


def test_the_schema_covers_every_key() -> None:
    text = json.dumps(Settings.model_json_schema())
    for key in leaves():
        assert f'"{key.split(".")[1]}"' in text


def test_the_projects_own_file_is_all_defaults() -> None:
    settings, sources = read(Request(Path(__file__).parents[3] / "slipway.yaml"))
    assert settings == Settings()
    assert sources == {}


def test_no_login_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slipway.yaml").write_text("site:\n  proxy: http://joe:s@cret@proxy.example:3128\n")
    for words in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["slipway", "settings", *words])
        with pytest.raises(SystemExit):
            app.main()
        out = capsys.readouterr().out
        assert "http://***@proxy.example:3128" in out
        assert "cret" not in out.lower().replace("secret", "")
