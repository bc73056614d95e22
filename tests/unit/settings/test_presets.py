"""The first slipway.yaml of each preset: accepted as it is, and as it is with every comment made active."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from slipway.core.errors import UsageError
from slipway.core.schema import leaves
from slipway.settings import presets
from slipway.settings.read import Request, read

# What only the person who starts can know; an empty file and the kubeconfig of someone stand in for it.
UNKNOWN = {"cluster": ["cluster.kubeconfig"]}


@pytest.fixture(params=presets.NAMES)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> presets.Name:
    """A preset whose files are in the working directory of a person without a kubeconfig."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    chosen: presets.Name = request.param
    Path("slipway.yaml").write_text(presets.text(chosen))
    for file, text in presets.PRESETS[chosen].files.items():
        Path(file).write_text(text)
    return chosen


def test_a_preset_is_accepted_or_says_what_to_fill_in(name: presets.Name) -> None:
    try:
        _, sources = read(Request(Path("slipway.yaml")))
    except UsageError as error:
        assert [line.split(": ")[1] for line in error.tail.splitlines()] == UNKNOWN[name]
        Path(".kube").mkdir()
        Path(".kube/config").touch()
        _, sources = read(Request(Path("slipway.yaml")))
    else:
        assert name not in UNKNOWN
    assert set(sources) == set(presets.PRESETS[name].values)


def test_every_other_key_of_a_section_is_a_comment_with_its_default(name: presets.Name) -> None:
    text = Path("slipway.yaml").read_text()
    active = yaml.safe_load(re.sub(r"^  #(\w+:( .*)?)$", r"  \1", text, flags=re.MULTILINE))
    preset, fields = presets.PRESETS[name], leaves()
    for section in preset.sections:
        keys = {key.partition(".")[2] for key in fields if key.startswith(f"{section}.")}
        assert set(active[section]) == keys
        for key in keys - {full.partition(".")[2] for full in preset.values if full.startswith(section)}:
            default = fields[f"{section}.{key}"].default
            assert active[section][key] == (list(default) if isinstance(default, tuple) else default)


def test_the_lab_is_what_slipway_does_without_any_file() -> None:
    fields = leaves()
    for key, value in presets.PRESETS["lab"].values.items():
        assert fields[key].default in (value, None)


def test_no_line_is_too_long_to_read(name: presets.Name) -> None:
    assert max(map(len, Path("slipway.yaml").read_text().splitlines())) <= 110
