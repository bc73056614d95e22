"""Build contexts: same input, same bytes; nothing half-written; nothing from outside of a wheel."""

from __future__ import annotations

import struct
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.artifacts.oci import EPOCH
from slipway.artifacts.tensorflow_serving import VERSION
from slipway.core.errors import ImageError
from slipway.core.types import ExportedModel
from slipway.image import build_context
from slipway_server.config import parse_models, text_of


def wheel(folder: Path, name: str, entries: Mapping[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    return path


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            member.name: archive.extractfile(member).read()  # type: ignore[union-attr]  # all are files
            for member in archive.getmembers()
            if member.isfile()
        }


@pytest.fixture
def model(tmp_path: Path) -> ExportedModel:
    path = tmp_path / "models" / "mnist" / "3"
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"graph")
    (path / "variables" / "variables.index").write_bytes(b"weights")
    (path / "saved_model.pb").chmod(0o600)
    return ExportedModel(path, "mnist", 3, "ab" * 32, tmp_path / "requests.jsonl")


def test_wheels_are_laid_out_as_an_installer_does_it(tmp_path: Path) -> None:
    wheel(
        tmp_path / "w",
        "one",
        {
            "one/__init__.py": b"1",
            "one/tests/test_one.py": b"test",
            "one-1.0.data/purelib/one/more.py": b"2",
            "one-1.0.data/scripts/one": b"#!python",
            "one-1.0.data/data/share/doc": b"doc",
            "one-1.0.dist-info/METADATA": b"meta",
            "one-1.0.dist-info/RECORD": b"record",
        },
    )
    build_context.write_runtime(tmp_path / "out.tar.gz", tmp_path / "w", "portable")
    found = unpacked(tmp_path / "out.tar.gz")
    assert set(found) == {
        "Dockerfile",
        "site-packages/one/__init__.py",
        "site-packages/one/more.py",
        "site-packages/one-1.0.dist-info/METADATA",
    }
    assert b"FROM ${BASE}" in found["Dockerfile"]


def test_the_same_wheels_give_the_same_bytes(tmp_path: Path) -> None:
    entries = {f"one/{name}.py": name.encode() * 50 for name in "cab"}
    wheel(tmp_path / "a", "one", entries)
    wheel(tmp_path / "b", "one", dict(reversed(list(entries.items()))))
    for name in "ab":
        build_context.write_runtime(tmp_path / f"{name}.tar.gz", tmp_path / name, "portable")
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()


CODE = {"site-packages/slipway_server/__main__.py": b"main", "bin/slipway-model-server": b"#!"}


def test_the_server_context_holds_code_launchers_and_model(tmp_path: Path, model: ExportedModel) -> None:
    build_context.write_server(tmp_path / "out.tar.gz", "portable", CODE, model)
    found = unpacked(tmp_path / "out.tar.gz")
    assert found["models/mnist/3/saved_model.pb"] == b"graph"
    assert found["models/mnist/3/variables/variables.index"] == b"weights"
    assert set(found) == {
        "Dockerfile",
        "monitoring.config",
        *CODE,
        "models/mnist/3/saved_model.pb",
        "models/mnist/3/variables/variables.index",
    }
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        modes = {member.name: member.mode for member in archive}
        owners = {(member.uid, member.gid, member.mtime) for member in archive}
    assert modes["models/mnist/3/saved_model.pb"] == 0o644, "the server's user must be able to read it"
    assert modes["site-packages/slipway_server/__main__.py"] == 0o644
    assert modes["bin/slipway-model-server"] == 0o755
    assert owners == {(0, 0, EPOCH)}


@pytest.fixture
def both(tmp_path: Path, model: ExportedModel) -> ExportedModel:
    """Two models for one server."""
    path = tmp_path / "other" / "1"
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"half")
    other = ExportedModel(path, "half_plus_two", 1, "cd" * 32, tmp_path / "requests.jsonl")
    return replace(model, beside=(other,))


def test_several_models_come_with_the_list_that_the_server_reads(tmp_path: Path, both: ExportedModel) -> None:
    build_context.write_server(tmp_path / "out.tar.gz", "portable", CODE, both)
    found = unpacked(tmp_path / "out.tar.gz")
    assert found["models/mnist/3/saved_model.pb"] == b"graph"
    assert found["models/half_plus_two/1/saved_model.pb"] == b"half"
    config = tmp_path / "models.config"
    config.write_bytes(found["models/models.config"])
    assert [(one.name, one.base_path) for one in parse_models(text_of(config), config)] == [
        ("mnist", Path("/models/mnist")),
        ("half_plus_two", Path("/models/half_plus_two")),
    ]


def test_the_tag_follows_each_model(both: ExportedModel) -> None:
    alone = replace(both, beside=())
    other = replace(both, beside=(replace(both.beside[0], sha256="ef" * 32),))
    tags = {build_context.server_tag("r", "portable", {}, one) for one in (both, alone, other)}
    assert len(tags) == 3


def test_a_server_that_is_a_program_lies_beside_the_code(tmp_path: Path, model: ExportedModel) -> None:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tensorflow_model_server").write_bytes(b"program")
    (root / "usr/bin/tensorflow_model_server").chmod(0o755)
    build_context.write_server(tmp_path / "out", "tensorflow", CODE, model, root)
    build_context.write_server(tmp_path / "own", "portable", CODE, model)
    found = unpacked(tmp_path / "out")
    assert set(found) - set(unpacked(tmp_path / "own")) == {"server/usr/bin/tensorflow_model_server"}
    with tarfile.open(tmp_path / "out") as packed:
        assert packed.getmember("server/usr/bin/tensorflow_model_server").mode == 0o755
        assert packed.getmember("models/mnist/3/saved_model.pb").mode == 0o644


def test_the_tag_follows_everything_that_decides_the_image(tmp_path: Path, model: ExportedModel) -> None:
    code = {"slipway_server/a.py": b"1"}
    first = build_context.server_tag("r", "portable", code, model)
    assert first == build_context.server_tag("r", "portable", dict(code), model)
    assert first.startswith("3-")
    others = {
        build_context.server_tag("other", "portable", code, model),
        build_context.server_tag("r", "tensorflow", code, model),
        build_context.server_tag("r", "portable", {"slipway_server/a.py": b"2"}, model),
        build_context.server_tag("r", "portable", {"slipway_server/b.py": b"1"}, model),
        build_context.server_tag("r", "portable", code, replace(model, sha256="cd" * 32)),
        build_context.server_tag("r", "portable", code, replace(model, name="other")),
        build_context.server_tag("r", "portable", code, replace(model, version=4)),
    }
    assert len(others | {first}) == 8


def test_the_runtime_tag_follows_base_lock_server_and_machine(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one==1")
    (tmp_path / "b").write_text("one==2")
    tags = {
        build_context.runtime_tag("base:1", tmp_path / "a", "portable", "x86_64"),
        build_context.runtime_tag("base:1", tmp_path / "b", "portable", "x86_64"),
        build_context.runtime_tag("base:2", tmp_path / "a", "portable", "x86_64"),
        build_context.runtime_tag("base:1", tmp_path / "a", "tensorflow", "x86_64"),
        build_context.runtime_tag("base:1", tmp_path / "a", "portable", "aarch64"),
    }
    assert len(tags) == 5


@pytest.mark.parametrize("entry", ["../evil.py", "one/../../evil.py", "/evil.py"])
def test_a_wheel_cannot_reach_out_of_its_folder(tmp_path: Path, entry: str) -> None:
    wheel(tmp_path / "w", "one", {entry: b"x"})
    with pytest.raises(ImageError, match="outside") as caught:
        build_context.write_runtime(tmp_path / "out.tar.gz", tmp_path / "w", "portable")
    assert "requirements.lock" in caught.value.action
    assert not (tmp_path / "out.tar.gz").exists()


def test_a_truncated_wheel_leaves_no_context(tmp_path: Path) -> None:
    path = wheel(tmp_path / "w", "one", {"one/a.py": b"x" * 1000})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageError) as caught:
        build_context.write_runtime(tmp_path / "out.tar.gz", tmp_path / "w", "portable")
    assert "one-1.0" in caught.value.what and caught.value.action
    assert list(tmp_path.glob("*out*")) == []


def test_a_changed_wheel_is_noticed(tmp_path: Path) -> None:
    path = wheel(tmp_path / "w", "one", {"one/a.py": bytes(range(256)) * 9})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ImageError):
        build_context.write_runtime(tmp_path / "out.tar.gz", tmp_path / "w", "portable")
    assert list(tmp_path.glob("*out*")) == []


def test_two_wheels_with_one_file_are_refused(tmp_path: Path) -> None:
    wheel(tmp_path / "w", "one", {"shared/a.py": b"1"})
    wheel(tmp_path / "w", "two", {"shared/a.py": b"2"})
    with pytest.raises(ImageError, match=r"shared/a\.py") as caught:
        build_context.write_runtime(tmp_path / "out.tar.gz", tmp_path / "w", "portable")
    assert "requirements.lock" in caught.value.action


def test_no_wheels_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no wheels"):
        build_context.write_runtime(tmp_path / "out.tar.gz", tmp_path, "portable")


def elf(loaded: int, behind: int) -> bytes:
    """A 64-bit ELF file with one segment up to `loaded` and `behind` bytes of symbols after it."""
    head = bytearray(b"\x7fELF\x02\x01\x01" + bytes(57))
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<Q", head, 40, loaded)
    struct.pack_into("<HHHHH", head, 54, 56, 1, 64, 7, 6)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, loaded, loaded, 4096)
    return bytes(head) + segment + b"L" * (loaded - 120) + b"S" * behind


def test_a_large_library_loses_what_no_loader_reads(tmp_path: Path) -> None:
    whole = elf(2 << 20, 500_000)
    wheel(tmp_path / "w", "one", {"one/lib.so.2": whole})
    build_context.write_runtime(tmp_path / "out.tar.gz", tmp_path / "w", "portable")
    (cut,) = [data for name, data in unpacked(tmp_path / "out.tar.gz").items() if name.endswith("lib.so.2")]
    assert len(cut) == 2 << 20
    assert cut[64:] == whole[64 : 2 << 20]
    assert struct.unpack_from("<Q", cut, 40) == (0,) and cut[58:64] == bytes(6)
    assert cut[:40] == whole[:40] and cut[48:58] == whole[48:58]


@pytest.mark.parametrize(
    "content",
    [
        elf(2 << 20, 0),
        b"\x7fELF\x01\x01" + b"x" * (2 << 20),
        b"no library" * 200_000,
        elf(2 << 20, 9)[:54] + b"\xff\xff\xff\xff" + elf(2 << 20, 9)[58:],
    ],
    ids=["nothing behind", "32 bit", "not ELF", "headers out of reach"],
)
def test_any_other_file_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    wheel(tmp_path / "w", "one", {"one/lib.so": content})
    build_context.write_runtime(tmp_path / "out.tar.gz", tmp_path / "w", "portable")
    assert unpacked(tmp_path / "out.tar.gz")["site-packages/one/lib.so"] == content


def test_googles_server_is_of_the_tensorflow_that_exports() -> None:
    lock = (Path(build_context.__file__).parent / "requirements.lock").read_text()
    assert f"tensorflow-cpu=={VERSION} " in lock


def test_the_tag_follows_the_program(model: ExportedModel) -> None:
    tags = {build_context.server_tag("r", "tensorflow", {}, model, program) for program in ("a", "b")}
    assert len(tags) == 2
