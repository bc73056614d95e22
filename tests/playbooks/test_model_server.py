"""Role model_server on a real host, in the order in which people meet it.

First TensorFlow Serving's key has ended, and auto takes the portable server; then it is renewed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway.clients.ansible_play import Played
from slipway.core.errors import ProvisionError

from tests.playbooks.bare_host import PLAYBOOKS, BareHost, bare_host
from tests.playbooks.model_servers import KEEP_RUNTIME, offer, quick_model, variables
from tests.standins.apt_repository import SigningKey
from tests.standins.tensorflow_packages import NAMES, PROGRAM

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

BOOK = PLAYBOOKS / "model_server.yml"
FOLDERS = ("/etc", "/opt", "/usr/bin", "/usr/lib/systemd", "/usr/share/keyrings", "/var/lib")
# what adding and removing anything leaves: backups, caches, logs
NOISE = re.compile(
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/etc/ld\.so\.cache|/etc/\.pwd\.lock"
    r"|/var/lib/(dpkg|systemd|apt|private|python|ucf|sudo|pam|dbus)|/opt/stand-in|__pycache__"
)


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel and a second version of it."""
    folder = tmp_path_factory.mktemp("models")
    path = quick_model(folder)
    assert path.name == "1"
    shutil.copytree(path, path.with_name("2"))
    return path


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, key: SigningKey, model: Path) -> Iterator[BareHost]:
    with bare_host(tmp_path_factory.mktemp("model-server"), "model_server") as made:
        offer(made, key, -101)
        made.serve()
        made.variables = variables(made, key, model)
        yield made


def state(host: BareHost) -> dict[str, str]:
    """Files, packages and users of the host, as far as they are to be as before in the end."""
    found = {path: told for path, told in host.files(*FOLDERS).items() if not NOISE.search(path)}
    found["users"] = host.on("cut -d: -f1,3,7 /etc/passwd; cut -d: -f1,3 /etc/group")
    found["packages"] = host.on("dpkg-query --show")
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    pairs = {path: (before.get(path), after.get(path)) for path in before.keys() | after.keys()}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def installed(host: BareHost) -> str:
    """TensorFlow Serving's packages that are there, with version and whether they are held."""
    form = "${Package} ${Version} ${db:Status-Want}"
    return host.on(f"dpkg-query --show --showformat='{form}' 'tensorflow*'")


def pid(host: BareHost) -> str:
    """Of the server, with the time it started at: another one after a restart."""
    return host.on("systemctl show model-server --property=MainPID,ExecMainStartTimestampMonotonic")


def printed(played: Played) -> str:
    """What the play said, on one line: Ansible breaks long ones."""
    return " ".join(played.log.read_text().split())


def proved(said: str) -> bool:
    """Whether a hundred images and more were asked, and every answer was the one the export recorded. How many of
    them are right is the quick training's."""
    counts = re.search(r"requests: (\d+), errors: 0; recorded answers: (\d+) compared, 0 differ", said)
    assert counts, said[-3000:]
    return int(counts[1]) == int(counts[2]) >= 100 and "." * 100 in said and "Inference error rate: " in said


@pytest.fixture(scope="module")
def before(host: BareHost) -> dict[str, str]:
    return state(host)


TENSORFLOW: dict[str, Any] = {"model_server_flavour": "tensorflow", "model_server_version": "2.20.0"}


def test_a_dry_run_says_what_it_would_do_and_does_nothing(host: BareHost, before: dict[str, str]) -> None:
    said = printed(host.play(BOOK, check=True))
    assert "server: portable: the signing key of the apt repository tensorflow-serving ended on" in said
    # asked for by name nobody is asked whether it can be had: that is said when it is wanted
    assert "would install tensorflow-model-server=2.20.0" in printed(
        host.play(BOOK, check=True, **TENSORFLOW)
    )
    assert differences(before, state(host)) == {}


def test_auto_takes_the_portable_server_while_the_key_has_ended(host: BareHost) -> None:
    said = printed(host.play(BOOK))
    assert "server: portable: the signing key of the apt repository tensorflow-serving ended on" in said
    assert "Google makes this key valid for longer" in said
    assert proved(said)
    shown = host.on("ps -o user:20= -o args= -C slipway-model-server,python,python3 | grep 8500")
    assert shown.startswith("model-server ") and "--model_name=mnist" in shown
    assert "/opt/model-server/server/bin/" in shown
    assert not host.on("ls /etc/apt/sources.list.d /etc/apt/keyrings | grep tensorflow || true")


def test_again_nothing_changes_and_nothing_restarts(host: BareHost) -> None:
    running = pid(host)
    played = host.play(BOOK)
    assert played.changed == 0 and pid(host) == running
    assert "it is installed already; model_server_flavour: tensorflow changes to the other one" in printed(
        played
    )
    assert proved(printed(played))


def test_tensorflows_own_is_refused_as_long_as_its_key_has_ended(host: BareHost) -> None:
    running = pid(host)
    with pytest.raises(ProvisionError) as caught:
        host.play(BOOK, **TENSORFLOW)
    said = f"{caught.value} {caught.value.tail}"
    assert "ended on" in said and "what to do: Google makes this key valid for longer" in said
    assert pid(host) == running


def test_once_the_key_is_renewed_tensorflows_own_takes_its_place(host: BareHost, key: SigningKey) -> None:
    offer(host, key, 365)
    host.on(KEEP_RUNTIME)
    # there are lists, and none of what is only to be added
    assert "would install tensorflow-model-server=2.20.0" in printed(
        host.play(BOOK, check=True, **TENSORFLOW)
    )
    said = printed(host.play(BOOK, **TENSORFLOW))
    assert proved(said)
    shown = host.on("ps -o user:20= -o args= -C tensorflow_mode,python,python3 | grep 8500")
    assert shown.startswith("model-server ") and PROGRAM in shown
    assert host.on(
        "dpkg-query --show --showformat='${Package} ${Version} ${db:Status-Want}' 'tensorflow*'"
    ) == (f"{NAMES[0]} 2.20.0 hold")
    assert "no" in host.on("[ -e /opt/model-server/server ] || echo no")
    running = pid(host)
    assert host.play(BOOK, **TENSORFLOW).changed == 0 and pid(host) == running


def test_a_new_version_of_the_model_is_loaded_without_a_restart(host: BareHost, model: Path) -> None:
    running = pid(host)
    host.play(BOOK, **TENSORFLOW, model_server_model=str(model.with_name("2")))
    ask = "python3 -c 'import urllib.request; print(urllib.request.urlopen(\"http://127.0.0.1:8501/v1/models/mnist\").read().decode())'"
    told = host.on(
        f'for n in 1 2 3 4 5 6 7 8 9 10; do {ask} | tr -d \' \\n\' | grep -q \'"2","state":"AVAILABLE\' && break; sleep 1; done; {ask}'
    )
    assert re.search(r'"version": "2",\s+"state": "AVAILABLE"', told)
    assert pid(host) == running


def test_what_is_damaged_is_mended(host: BareHost) -> None:
    """Each thing by itself: afterwards every file, user and package is as it was."""
    whole = state(host)
    damage = (
        "systemctl --quiet disable --now model-server",
        "echo >>/etc/systemd/system/model-server.service",
        "echo >>/var/lib/model-server/mnist/1/saved_model.pb",
        "apt-mark unhold tensorflow-model-server",
        "rm /etc/apt/sources.list.d/tensorflow-serving.sources",
        "rm /opt/model-server/client/bin/slipway-prove",
        "userdel model-server",
    )
    host.on(" && ".join(damage))
    host.play(BOOK, **TENSORFLOW)
    assert differences(whole, state(host)) == {}
    assert (
        host.on("systemctl is-active model-server; systemctl is-enabled model-server") == "active\nenabled\n"
    )


def test_another_version_is_an_upgrade_and_another_package_leaves_one(host: BareHost) -> None:
    running = pid(host)
    newer = {**TENSORFLOW, "model_server_version": "2.21.0"}
    host.play(BOOK, **newer)
    upgraded = pid(host)
    assert upgraded != running and "2.21.0" in host.on(f"cat {PROGRAM}")
    with pytest.raises(ProvisionError):
        host.play(BOOK, **{**newer, "model_server_version": "9.9"}, model_server_package=NAMES[1])
    assert installed(host) == f"{NAMES[0]} 2.21.0 hold" and pid(host) == upgraded, "nothing went for nothing"
    # and a model that is on the host already, with requests of the controller
    there: dict[str, Any] = {
        "model_server_model": "",
        "model_server_flags": ["--file_system_poll_wait_seconds=2"],
    }
    requests = Path(host.variables["model_server_model"]) / "assets.extra/requests.jsonl"
    said = printed(
        host.play(BOOK, **newer, **there, model_server_package=NAMES[1], model_server_requests=str(requests))
    )
    assert proved(said) and pid(host) != upgraded
    assert installed(host) == f"{NAMES[1]} 2.21.0 hold"
    assert NAMES[1] in host.on(f"cat {PROGRAM}")


def test_what_does_not_answer_is_told_with_its_journal(host: BareHost) -> None:
    host.on("systemctl stop model-server")
    with pytest.raises(ProvisionError) as caught:
        host.play(PLAYBOOKS / "verify.yml", model_server_ready_timeout=1)
    said = f"{caught.value} {caught.value.tail}"
    assert "the model server does not answer as it should" in said and "journalctl --unit" in said


def test_reset_leaves_the_host_as_it_was(host: BareHost, before: dict[str, str]) -> None:
    host.play(PLAYBOOKS / "reset.yml", tags="model_server", reset_confirmed=True)
    assert differences(before, state(host)) == {}
