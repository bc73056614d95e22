"""Every verb with a broken disk, a broken network, broken files and Ctrl-C: words and an exit code, no traceback."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from slipway.core import process

from tests.conftest import can_make_hosts
from tests.integration.cli.walk import SCENES

ROOT = Path(__file__).parents[3]
CODES = {0, 1, 2, 3, 4, 5, 6, 130}
# `hosts ssh` becomes ssh, whose own code for a host that does not answer this is.
SSH = 255
# Each is close to another one (no scene but one has a network), so that `make test` leaves them out.
LONG = ("whole", "truncated values", "binary values", "settings are unreadable", "settings are binary")
# Root may read everything; without these it is refused like anybody.
PLAIN_ROOT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")

pytestmark = [
    pytest.mark.skipif(not can_make_hosts(), reason="only root can mount what breaks"),
    pytest.mark.timeout(1200),
]


Ended = dict[str, tuple[int, str]]
CTRL_C = "ctrl-c"


def walked(scene: str, folder: Path) -> Ended:
    """Verb -> how it ended and what it printed, in namespaces of their own."""
    plain = PLAIN_ROOT if "unreadable" in scene else ()
    done = process.run(
        [
            *("unshare", "--mount", "--net", "--propagation", "private", *plain),
            *(sys.executable, Path(__file__).with_name("walk.py"), scene, folder),
        ],
        env={"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("infra", "stacks", "."))},
        timeout=1100,
    )
    found: Ended = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def walks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], tuple[Ended, Path]]]:
    """How every verb ended in a scene, and the folder it was walked in.

    The scenes of all tests chosen here are walked beside each other, one for each core: none sees another.
    """
    chosen = [item for item in request.session.items if item.path == request.path]
    scenes = [item.callspec.params["scene"] for item in chosen if hasattr(item, "callspec")]
    if any(item.name == test_ctrl_c_ends_every_verb_at_any_point.__name__ for item in chosen):
        scenes.insert(0, CTRL_C)  # the longest, so that nothing waits for it at the end
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        folders = {scene: tmp_path_factory.mktemp("walk") / "work" for scene in scenes}
        ended = {scene: pool.submit(walked, scene, folder) for scene, folder in folders.items()}
        yield lambda scene: (ended[scene].result(), folders[scene])
        pool.shutdown(cancel_futures=True)


def faults(ended: Ended) -> list[str]:
    """What nobody should see, one line for each verb that shows it."""
    return [
        f"{verb}: {code}: {printed[-400:]}"
        for verb, (code, printed) in ended.items()
        if "Traceback" in printed
        or "Exception ignored" in printed
        or not (code in CODES or (verb.startswith("hosts ssh") and code == SSH))
        or printed.count("\nerror: ") + printed.startswith("error: ") > 1
        or (code not in (0, 130) and not printed.strip())
    ]


@pytest.mark.parametrize(
    "scene", [pytest.param(scene, marks=pytest.mark.soak if scene in LONG else ()) for scene in SCENES]
)
def test_every_verb_ends_in_words(scene: str, walks: Callable[[str], tuple[Ended, Path]]) -> None:
    ended, folder = walks(scene)
    assert not faults(ended)
    if scene == "full state":
        code, printed = ended["env"]
        assert (code, "no space is left on the disk of" in printed) == (3, True)
        assert str(folder / ".slipway") in printed
        assert {verb: ended[verb][0] for verb in ("down", "clean")} == {"down": 0, "clean": 0}
    elif scene.startswith("settings are"):
        assert {ended[verb][0] for verb in ("up", "down", "status", "env")} == {2}
    elif scene == "state is a file":
        assert {ended[verb][0] for verb in ("up", "down", "env")} == {3}


def test_ctrl_c_ends_every_verb_at_any_point(walks: Callable[[str], tuple[Ended, Path]]) -> None:
    ended, _ = walks(CTRL_C)
    assert not faults(ended)
    early = {verb: code for verb, (code, _) in ended.items() if " @ 1 of" in verb}
    assert early
    assert set(early.values()) == {130}
    assert sum(code == 130 for code, _ in ended.values()) > len(early)


def test_ctrl_c_while_the_command_line_is_loaded_shows_no_traceback() -> None:
    code = """
import signal, sys

class PressedAtTyper:
    def find_spec(self, name, *_):
        if name == "typer":
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, PressedAtTyper())
from slipway.cli import main
main()
"""
    done = process.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("infra", "stacks"))},
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-2, "", "")
