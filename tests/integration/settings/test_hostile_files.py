"""Settings files that nobody meant to write: each is read, or refused in words, whatever is in it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from slipway.core.errors import UsageError
from slipway.core.schema import leaves
from slipway.settings.read import LONGEST, MOST, Request, read

PIECES = [
    *("\n", "\n  ", "\n\t", "\r", "\r\n", "\ufeff", "\0", "\x85", "\u2028", "\x1b[2J", "\xa0", "\ud800"),
    *(
        ": ",
        ":",
        "- ",
        "? ",
        "#",
        "|",
        ">",
        "|2+",
        "%YAML 1.1\n",
        "%TAG ! x:\n",
        "---\n",
        "\n...\n",
        "@",
        "`",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        '"',
        "&a ",
        "*a",
        "<<: *a",
        "!",
        "!!",
        "!env ",
        "!!set ",
        "!!binary ",
        "!<x>",
    ),
    *(
        '"\\x00"',
        '"\\ud800"',
        '"\\UFFFFFFFF"',
        "~",
        "null",
        "yes",
        ".nan",
        "-.inf",
        "=",
        "0x1f",
        "1:2:3",
        "1e999",
    ),
    *(
        "2024-02-30",
        "9" * 5000,
        "a" * 5000,
        "~root/x",
        "~nobody-of-this-name",
        "/",
        "..",
        "http://a:b@c",
        "://",
    ),
    *leaves(),
    *(name for key in leaves() for name in key.split(".")),
]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("slipway.yaml")


def refused(config: Path, data: bytes) -> list[str]:
    """The lines of what is said of a file; none if it is taken. Anything but that is this test's failure."""
    config.write_bytes(data)
    try:
        settings, sources = read(Request(config))
    except UsageError as error:
        lines = error.lines()
        assert all(line.isprintable() for line in lines), lines
        assert len(lines) < MOST + 5
        assert max(map(len, lines)) < 1200
        assert all(line.startswith("slipway.yaml:") or "more" in line for line in error.tail.splitlines())
        return lines
    assert settings.model_dump_json()
    assert set(sources) <= set(leaves())
    return []


def mutated(chance: random.Random) -> bytes:
    """A seed with some of its bytes doubled, dropped, moved or replaced by pieces of YAML."""
    data = chance.choice(SEEDS)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((0, 1, 4, 40)))
        piece = chance.choice(PIECES).encode("utf-8", "surrogatepass")
        data = chance.choice(
            (
                data[:at] + piece + data[end:],
                data[:at] + data[end:],
                data[:end] + data[at:],
                data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :],
            )
        )
    return data


# Small files that are taken, of every shape that a value may have
SEEDS = [
    b"hosts: {workers: 2, subnet: 10.77.4.0/24}\nmodel:\n  hidden: &a [64, 32]\n  name: mnist\n",
    b'artifacts:\n  sources:\n  - release\n  - modules\nimage: {registry: "r.example.com:5000"}\n',
    b"? deploy\n: by: engine\n  namespace: >-\n    serving\nsmoke: {max_errors: &n 5, num_tests: *n}\n",
    b"# all\nmodel:\n  data: 'https://example.com/'\n  path: ~\n  seed: !!int 3\ncluster: # none\n",
]


def test_the_seeds_are_taken(config: Path) -> None:
    assert [refused(config, seed) for seed in SEEDS] == [[], [], [], []]


def fuzzed(config: Path, seed: int, count: int) -> tuple[int, int]:
    """How many of `count` mutated files were taken, and how many refused for a setting's sake."""
    chance = random.Random(seed)
    taken = told = 0
    for number in range(count):
        data = mutated(chance)
        try:
            lines = refused(config, data)
        except BaseException:
            print(f"seed {seed}, file {number}: {data!r}")
            raise
        taken += not lines
        told += bool(lines) and "in the settings" in lines[0]
    return taken, told


def test_ten_thousand_mutated_files_are_read_or_refused_in_words(config: Path) -> None:
    taken, told = fuzzed(config, 30, 10_000)
    # or the mutations would be too wild, or too tame, to reach what lies behind the parser
    assert taken > 500
    assert told > 2000


@pytest.mark.soak
def test_many_more_mutated_files(config: Path) -> None:
    fuzzed(config, int.from_bytes(os.urandom(4)), 300_000)


def test_random_bytes(config: Path) -> None:
    chance = random.Random(31)
    for length in (1, 2, 3, 10, 1000):
        for _ in range(50):
            refused(config, chance.randbytes(length))


HUGE = {
    "brackets": b"[" * 200_000,
    "question marks": b"? " * 100_000,
    "dashes": b"- " * 100_000,
    "quotes": b"a: '" + b"x" * 200_000,
    "one key": b"k" * 200_000 + b": {}\n",
    "one value": b"model:\n  name: " + b"x" * 200_000,
    "a value of a login's signs": b"model:\n  name: '" + b"a:" * 100_000 + b"@'",
    "a list": b"model:\n  hidden: [" + b"1," * 20_000 + b"1]",
    "anchors": b"".join(b"k%d: &a%d {}\n" % (n, n) for n in range(3000)),
    "sections": b"".join(b"hosts%d: {}\n" % n for n in range(3000)),
    "more than is read": b"# \n" * 100_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_file_is_refused_in_few_words(config: Path, name: str) -> None:
    assert refused(config, HUGE[name])


def test_a_value_longer_than_any_setting_is_not_shown(config: Path) -> None:
    lines = refused(config, b"model:\n  name: " + b"x" * (LONGEST + 1))
    assert lines[1].endswith(
        "slipway.yaml:2: model.name: a value has at most 4,096 characters, this one 4,097"
    )


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for odd in (tmp_path, tmp_path / ("x" * 300), tmp_path / "a\0b", Path("/proc/self/mem")):
        with pytest.raises(UsageError, match="cannot read"):
            read(Request(odd))


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(UsageError, match="is larger than 262,144 bytes"):
        read(Request(Path("/dev/zero")))


def test_variables_and_flags_are_held_to_the_same(config: Path) -> None:
    odd = ["\0", "\udcff", "a\nb", "\x1b[2J", "9" * 5000, "~nobody-of-this-name/x", "x" * 300, "a:b@c", "é"]
    for key in leaves():
        for text in odd:
            variable = "SLIPWAY_" + key.replace(".", "_").upper()
            for request in (Request(None, {variable: text}), Request(None, {}, (f"{key}={text}",))):
                try:
                    read(request)
                except UsageError as error:
                    assert all(line.isprintable() for line in error.lines()), error.lines()
