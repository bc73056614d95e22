"""The real engine with our language host: programs, policy packs and dynamic providers, without a cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slipway.artifacts import from_modules
from slipway.core.context import Context
from slipway.core.state import State

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]  # the first on a machine builds the engine
SECRET = "a-word-nobody-sees"
PROGRAM = """\
import pulumi

config = pulumi.Config()


class Shelf(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("shop:index:Shelf", name)
        self.register_outputs({})


Shelf("upper")
pulumi.export("size", config.require_int("size"))
pulumi.export("password", config.require_secret("password"))
print("said by the program")
"""
WAITS = """
import os, pathlib, time
pathlib.Path("pid.new").write_text(str(os.getpid()))
pathlib.Path("pid.new").rename("pid")
time.sleep(600)
"""
PACK = """\
from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy


def check(args, report):
    if args.resource_type == "shop:index:Shelf" and args.name == "REFUSED":
        report("no shelf may be called so")


PolicyPack(
    name="shop",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[ResourceValidationPolicy(name="names", description="Shelves are named well.", validate=check)],
)
"""
DYNAMIC = """
import sys
from pulumi.dynamic import CreateResult, Resource, ResourceProvider


class Boxes(ResourceProvider):
    def create(self, props):
        return CreateResult("box-1", {**props, "made_by": sys.executable})


class Box(Resource):
    made_by: pulumi.Output[str]

    def __init__(self, name):
        super().__init__(Boxes(), name, {"made_by": None})


pulumi.export("made_by", Box("box").made_by)
"""


class Shop:
    """A project with one stack, as `pulumi` in a shell sees it."""

    def __init__(self, folder: Path, engine: Path) -> None:
        self.folder = folder
        self.program = folder / "__main__.py"
        self.shell = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")},
            "PATH": f"{engine.parent}{os.pathsep}{os.environ['PATH']}",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": "x",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    def started(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["pulumi", *words, "--non-interactive", "--color=never"],
            cwd=self.folder,
            env=self.shell,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # whoever runs this in the background ignores interrupts, and children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # no thread holds a lock
        )

    def pulumi(self, *words: str, code: int = 0) -> str:
        process = self.started(*words)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == code, said
        return said

    def up(self, *words: str, code: int = 0) -> str:
        return self.pulumi("up", "--yes", "--skip-preview", *words, code=code)

    def resources(self) -> list[str]:
        held = json.loads(self.pulumi("stack", "export"))["deployment"].get("resources", [])
        return [one["urn"].rpartition("::")[2] for one in held]

    def pack(self, refused: str) -> str:
        pack = self.folder / "pack"
        pack.mkdir(exist_ok=True)
        (pack / "PulumiPolicy.yaml").write_text(runtime(sys.prefix))
        (pack / "__main__.py").write_text(PACK.replace("REFUSED", refused))
        return str(pack)


def runtime(venv: str) -> str:
    return f"runtime:\n  name: python\n  options:\n    virtualenv: {venv}\n"


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The engine, and a project whose stack has its configuration."""
    folder = tmp_path_factory.mktemp("engine")
    ctx = Context(state=State(folder / ".slipway"), run=folder / "run", project=folder)
    engine = from_modules.pulumi(ctx, network=True)  # the cache entry that the chain uses
    assert engine is not None
    shop = Shop(folder / "shop", engine)
    (shop.folder / "backend").mkdir(parents=True)
    (shop.folder / "Pulumi.yaml").write_text("name: shop\n" + runtime(sys.prefix))
    shop.program.write_text(PROGRAM)
    shop.pulumi("stack", "init", "dev")
    shop.pulumi("config", "set", "size", "3")
    shop.pulumi("config", "set", "--secret", "password", SECRET)
    return engine, shop.folder


@pytest.fixture
def shop(stocked: tuple[Path, Path], tmp_path: Path) -> Shop:
    engine, made = stocked
    shutil.copytree(made, tmp_path / "shop", ignore=shutil.ignore_patterns("home"))
    shop = Shop(tmp_path / "shop", engine)
    shop.pulumi("stack", "select", "dev")
    return shop


def gone(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def awaited(happens: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture
def waiting(shop: Shop) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """An up in the middle of its program: pulumi, and the pids of the language host and of Python."""
    shop.program.write_text(PROGRAM + WAITS)
    process = shop.started("up", "--yes", "--skip-preview")
    awaited((shop.folder / "pid").exists, "the program never ran")
    program = int((shop.folder / "pid").read_text())
    host = int(Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[1])
    assert "pulumi-language-python" in Path(f"/proc/{host}/cmdline").read_text()
    yield process, host, program
    process.kill()
    process.communicate()


def test_a_program_runs_and_its_secrets_are_not_shown(shop: Shop) -> None:
    asks = "from pulumi.runtime.config import is_config_secret as secret\n"
    shop.program.write_text(f'{PROGRAM}{asks}print(secret("shop:password"), secret("shop:size"))\n')
    said = shop.up()
    assert "said by the program" in said
    assert "password: [secret]" in said
    assert "size    : 3" in said
    assert "True False" in said  # the program is told which keys are secret
    assert SECRET not in said
    assert SECRET not in "".join(
        path.read_text() for path in (shop.folder / "backend").rglob("*") if path.is_file()
    )
    assert json.loads(shop.pulumi("stack", "output", "--json", "--show-secrets"))["password"] == SECRET


def test_an_exception_is_told_once_with_the_programs_own_lines(shop: Shop) -> None:
    shop.program.write_text(PROGRAM + 'raise ValueError("odd shelf")\n')
    said = shop.up(code=1)
    assert said.count('raise ValueError("odd shelf")') == 1
    assert "ValueError: odd shelf" in said
    assert "pulumi-language-python-exec" not in said
    assert "an unhandled error occurred" not in said


def test_a_program_that_ends_with_a_code_of_its_own_fails_the_update(shop: Shop) -> None:
    shop.program.write_text("import os\nos._exit(3)\n")
    assert "the program ended with exit code 3" in shop.up(code=1)


def test_a_missing_environment_is_named_with_the_way_out(shop: Shop) -> None:
    (shop.folder / "Pulumi.yaml").write_text("name: shop\n" + runtime("nowhere"))
    said = shop.up(code=1)
    assert f"the virtual environment {shop.folder}/nowhere, which runtime.options.virtualenv in" in said
    assert "is not there; make it" in said


def test_an_interrupt_ends_program_and_host_and_the_next_up_goes_on(
    shop: Shop, waiting: tuple[subprocess.Popen[str], int, int]
) -> None:
    process, host, program = waiting
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "update canceled" in said
    assert "Traceback" not in said
    assert gone(program)
    assert gone(host)
    shop.program.write_text(PROGRAM)
    shop.up()
    assert shop.resources() == ["shop-dev", "upper"]


def test_nothing_is_left_of_an_engine_that_was_killed(
    shop: Shop, waiting: tuple[subprocess.Popen[str], int, int]
) -> None:
    process, host, program = waiting
    process.kill()
    awaited(lambda: gone(program), "the program outlives its engine")
    awaited(lambda: gone(host), "the language host outlives its engine")
    shop.program.write_text(PROGRAM)
    assert "the stack is currently locked" in shop.up(code=1)
    shop.pulumi("cancel", "--yes")
    shop.up()
    assert shop.resources() == ["shop-dev", "upper"]


def test_about_tells_the_programs_python_and_what_is_installed(shop: Shop) -> None:
    told = json.loads(shop.pulumi("about", "--json", "--transitive"))
    assert told["runtime"]["language"] == "python"
    assert told["runtime"]["executable"] == str(Path(sys.prefix) / "bin" / "python")
    assert told["runtime"]["version"] == ".".join(str(part) for part in sys.version_info[:3])
    assert {"pulumi", "pulumi_policy"} <= {one["name"] for one in told["dependencies"]}


def test_a_policy_pack_stops_what_it_forbids_before_it_is_made(shop: Shop) -> None:
    said = shop.up("--policy-pack", shop.pack("upper"), code=1)
    assert "[mandatory]  names  (shop:index:Shelf: upper)" in said
    assert "no shelf may be called so" in said
    assert "upper" not in shop.resources()


def test_a_policy_pack_lets_pass_what_it_allows(shop: Shop) -> None:
    said = shop.up("--policy-pack", shop.pack("lower"))
    assert "shop@v" in said
    assert "2 created" in said


def test_a_policy_pack_that_cannot_start_stops_the_update_and_says_why(shop: Shop) -> None:
    pack = Path(shop.pack("lower"))
    (pack / "__main__.py").write_text("import nothing_of_this_name\n")
    said = shop.up("--policy-pack", str(pack), code=1)
    assert "No module named 'nothing_of_this_name'" in said
    assert shop.resources() == []


def test_a_dynamic_provider_runs_with_the_programs_python(shop: Shop) -> None:
    shop.program.write_text(PROGRAM + DYNAMIC)
    shop.up()
    assert json.loads(shop.pulumi("stack", "output", "--json"))["made_by"] == str(
        Path(sys.prefix) / "bin" / "python"
    )
    assert "3 deleted" in shop.pulumi("destroy", "--yes", "--skip-preview")
