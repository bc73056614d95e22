"""A cache entry is whole and unchanged, or it is made again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway.artifacts import cache
from slipway.core.errors import ArtifactError, EnvironmentFault
from slipway.core.events import Note


def maker(made: list[int], content: bytes = b"program") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        made.append(1)
        (folder / "bin").mkdir()
        (folder / "bin" / "tool").write_bytes(content)
        (folder / "names").write_text("a b")

    return make


def test_made_once_then_found(lab) -> None:
    made: list[int] = []
    assert cache.find(lab.ctx, "tool", "k1") is None
    first = cache.entry(lab.ctx, "tool", "k1", maker(made))
    assert (first / "bin" / "tool").read_bytes() == b"program"
    assert cache.entry(lab.ctx, "tool", "k1", maker(made)) == first
    assert cache.find(lab.ctx, "tool", "k1") == first
    assert made == [1]


def truncate(folder: Path) -> None:
    (folder / "bin" / "tool").write_bytes(b"prog")


def change_one_byte(folder: Path) -> None:
    (folder / "bin" / "tool").write_bytes(b"prograM")


def remove_a_file(folder: Path) -> None:
    (folder / "names").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "bin" / "other").write_text("x")


def remove_the_sums(folder: Path) -> None:
    (folder / cache.SUMS).unlink()


def empty_the_sums(folder: Path) -> None:
    (folder / cache.SUMS).write_text("{}")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (truncate, "bin/tool has 4 bytes, not 7"),
        (change_one_byte, "bin/tool has another sha256"),
        (remove_a_file, "names is missing"),
        (add_a_file, "bin/other is not one of its files"),
        (remove_the_sums, "cannot be read"),
        (empty_the_sums, "cannot be read"),
    ],
)
def test_damage_is_found_and_made_again(lab, harm: Callable[[Path], None], said: str) -> None:
    made: list[int] = []
    folder = cache.entry(lab.ctx, "tool", "k", maker(made))
    harm(folder)
    assert said in cache.damage(folder)
    assert cache.find(lab.ctx, "tool", "k") is None
    again = cache.entry(lab.ctx, "tool", "k", maker(made))
    assert made == [1, 1]
    assert cache.damage(again) == ""
    assert (again / "bin" / "tool").read_bytes() == b"program"
    notes = [event.text for event in lab.events if isinstance(event, Note)]
    assert len(notes) == 1
    assert said in notes[0]
    assert sorted(p.name for p in again.parent.iterdir()) == [".tool-k.lock", "tool-k"]


def test_failed_make_leaves_nothing(lab) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ArtifactError("no")

    with pytest.raises(ArtifactError, match="no"):
        cache.entry(lab.ctx, "tool", "k", fail)
    assert [p.name for p in cache.home(lab.ctx).iterdir()] == [".tool-k.lock"]


def test_full_disk_is_an_environment_fault(lab) -> None:
    def fail(_folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(EnvironmentFault, match="No space left on device"):
        cache.entry(lab.ctx, "tool", "k", fail)


def test_key_separates_its_parts() -> None:
    assert cache.key_of("ab", "c") != cache.key_of("a", "bc")
    assert cache.key_of("ab", b"c") == cache.key_of(b"ab", "c")


def test_a_file_changed_after_it_was_read_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"one")
    first = cache.sha256_of(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert cache.sha256_of(file) != first
