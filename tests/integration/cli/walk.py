"""Walk every verb through one broken place, and tell how each ended; a script, for namespaces of its own.

`walk.py SCENE FOLDER [VERB...]` prints one JSON object: verb -> [exit code, what it printed]. It mounts what it breaks, so
it is started by `unshare --mount --net`: nothing of it is seen outside, and nothing outside is reached from it.
Every verb runs in a fork of this process, for which everything is loaded already.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import typer
from slipway.cli import app
from slipway.core import process
from slipway.core.state import State
from slipway.core.types import (
    Cluster,
    Endpoints,
    ExportedModel,
    Host,
    Hosts,
    ImageRef,
    Replica,
    Result,
    Run,
    Values,
)
from slipway.hosts.base import ed25519
from slipway.report.write import write

from tests.integration.cli.verbs import VERBS

SECONDS = 120  # for one verb; nothing waits this long
SETTINGS = """\
hosts: {backend: ssh, inventory: inventory.yml}
image: {registry: "127.0.0.1:1"}
model: {data: data}
deploy: {timeout: 10}
"""
INVENTORY = """\
all:
  vars: {ansible_host: 127.0.0.1, ansible_port: 1, slipway_host_key: KEY}
  children: {control_plane: {hosts: {cp: {}}}, docker: {hosts: {cp: {}}}, worker: {hosts: {worker-1: {}}}}
"""
KUBECTL = "#!/bin/sh\necho 'The connection to the server 127.0.0.1:1 was refused' >&2\nexit 1\n"
KUBECONFIG = (
    "{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]}\n"
)


def project(folder: Path) -> State:
    """A working folder in which everything was made once and reported, on machines that are gone."""
    for name in ("data", "cache", "tmp", "bin"):
        (folder / name).mkdir(parents=True)
    (folder / "slipway.yaml").write_text(SETTINGS)
    key = ed25519().public
    (folder / "inventory.yml").write_text(INVENTORY.replace("KEY", key))
    (folder / "saved.weights.h5").write_bytes(b"\x89HDF\r\n")
    (folder / "bin" / "kubectl").write_text(KUBECTL)
    (folder / "bin" / "kubectl").chmod(0o755)
    state = State(folder / ".slipway")
    state.root.mkdir(mode=0o700)
    state.kubeconfig.write_text(KUBECONFIG)
    state.keep(Hosts("ssh", (Host("cp", "127.0.0.1", "root", key, ("control_plane", "docker"), 1),)))
    state.keep(Cluster(state.kubeconfig, folder / "bin" / "kubectl", "https://127.0.0.1:1", (), None))
    state.keep(ExportedModel(state.models / "mnist" / "1", "mnist", 1, "00", state.models / "requests.jsonl"))
    state.keep(ImageRef("127.0.0.1:1/mnist", f"sha256:{64 * 'a'}", "1", "portable", "mnist", 1, "00"))
    replica = Replica("pod-0", "worker-1", "127.0.0.1", 8500, 8501)
    state.keep(
        Endpoints("serving", "d", "s", "127.0.0.1", 8500, 8501, (replica,), "render"),
    )
    state.deployed.write_text('{"namespace": "serving", "by": "render"}\n')
    run = state.new_run()
    write(run, Run(True, (Result("hosts", "unchanged", "", 1.0),), Values(), {}))
    state.close_run(run)
    return state


# -- what is broken, each a function of the state folder --------------------------------------------------


def whole(state: State) -> None:
    """Nothing is broken but the network: no interface is up."""


def closed_ports(state: State) -> None:
    process.run(["ip", "link", "set", "lo", "up"])


def full_state(state: State) -> None:
    fill(state.root)


def full_cache_and_temporary_files(state: State) -> None:
    fill(state.root.parent / "cache")
    fill(state.root.parent / "tmp")


def read_only(state: State) -> None:
    process.run(["mount", "--bind", state.root.parent, state.root.parent])
    process.run(["mount", "-o", "remount,bind,ro", state.root.parent])
    os.chdir(state.root.parent)  # the folder as it is mounted now


def truncated_values(state: State) -> None:
    for file in written(state):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def binary_values(state: State) -> None:
    for file in written(state):
        file.write_bytes(bytes(range(256)))


def other_json(state: State) -> None:
    for file in written(state):
        file.write_text('{"stages": [1], "ok": null, "namespace": 3, "pid": []}')


def folders_for_files(state: State) -> None:
    for file in written(state):
        file.unlink()
        file.mkdir()


def unreadable_files(state: State) -> None:
    """Root without the right to read what it may not: the bounding set is dropped by whoever starts this."""
    for file in written(state):
        file.chmod(0)


def settings_are_a_folder(state: State) -> None:
    (state.root.parent / "slipway.yaml").unlink()
    (state.root.parent / "slipway.yaml").mkdir()


def settings_are_binary(state: State) -> None:
    (state.root.parent / "slipway.yaml").write_bytes(bytes(range(256)))


def settings_are_unreadable(state: State) -> None:
    (state.root.parent / "slipway.yaml").chmod(0)


def state_is_a_file(state: State) -> None:
    shutil.rmtree(state.root)
    state.root.write_text("x")


def written(state: State) -> list[Path]:
    """Every file that slipway wrote itself."""
    found = [*state.root.rglob("*.json"), state.lock, state.kubeconfig]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def fill(folder: Path) -> None:
    """Put the folder on a disk of its own that has no byte left."""
    kept = Path(tempfile.mkdtemp(dir="/dev/shm"))
    shutil.copytree(folder, kept, symlinks=True, dirs_exist_ok=True)
    process.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "none", folder])
    shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(kept)
    try:
        with (folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 512)
    except OSError:
        pass


SCENES: dict[str, Callable[[State], None]] = {
    scene.__name__.replace("_", " "): scene
    for scene in (
        *(whole, closed_ports, full_state, full_cache_and_temporary_files, read_only),
        *(truncated_values, binary_values, other_json, folders_for_files, unreadable_files),
        *(settings_are_a_folder, settings_are_binary, settings_are_unreadable, state_is_a_file),
    )
}

# -- the walk -----------------------------------------------------------------------------------------------


def walk(verb: str, interrupt_at: int = 0) -> tuple[int, str, int]:
    """Run a verb in a fork. Returns its exit code, what it printed, and at how many events it could have been
    interrupted: at one of them Ctrl-C is pressed if `interrupt_at` says so."""
    with tempfile.TemporaryFile(dir="/dev/shm") as out, tempfile.TemporaryFile(dir="/dev/shm") as count:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            sys.stdin.close()
            _press_ctrl_c(interrupt_at, count.fileno())
            sys.argv = ["slipway", *verb.split()]
            app.main()
        end = time.monotonic() + SECONDS
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.01)
        out.seek(0)
        count.seek(0)
        events = int(count.read() or b"0")
        return os.waitstatus_to_exitcode(ended[1]), out.read().decode(errors="replace"), events


def _press_ctrl_c(at: int, told: int) -> None:
    """Press it at this event of Python's audit: a file opened, a folder made, a program started and so on."""
    seen = 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what started this may have it ignored

    def hook(event: str, _arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event.split(".", maxsplit=1)[0] in ("open", "os", "socket", "subprocess", "shutil"):
            seen += 1
            if seen == at:
                signal.raise_signal(signal.SIGINT)
            if at == 0:
                os.pwrite(told, b"%d" % seen, 0)

    sys.addaudithook(hook)


# Those that take away what the others need come last.
ORDER = sorted(VERBS, key=lambda verb: verb.split()[-1] in ("destroy", "down", "clean"))


def load() -> None:
    """Import for all what each verb would import in its own fork, and build the command line once."""
    for module in (
        "pipeline",
        "status.now",
        "status.closing",
        "status.doctor",
        "cli.any_server",
        "clients.ssh",
    ):
        importlib.import_module(f"slipway.{module}")
    for module in ("hosts.nspawn.backend", "hosts.existing", "deploy.engine", "clients.ansible_play"):
        importlib.import_module(f"slipway.{module}")
    app.app = typer.main.get_command(app.app)  # type: ignore[assignment]  # what calling a Typer builds each time
    gc.collect()
    gc.freeze()


def main(scene: str, folder: Path, verbs: list[str]) -> dict[str, tuple[int, str]]:
    """Walk every verb. As "ctrl-c" each is interrupted at once and half-way, after a walk that counts."""
    state = project(folder)
    os.environ |= {"SLIPWAY_CACHE": str(folder / "cache"), "HOME": str(folder), "NO_COLOR": "1"}
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    os.chdir(folder)
    load()
    if scene == "ctrl-c":
        closed_ports(state)
        ended = {}
        for verb in verbs or ORDER:
            events = walk(verb)[2]
            for point in sorted({1, max(1, events // 2)}):
                ended[f"{verb} @ {point} of {events}"] = walk(verb, point)[:2]
        return ended
    SCENES[scene](state)
    return {verb: walk(verb)[:2] for verb in verbs or ORDER}


if __name__ == "__main__":
    json.dump(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]), sys.stdout)
