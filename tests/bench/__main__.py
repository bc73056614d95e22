"""`make bench`: measure the budgets on this machine and write docs/measurements.md.

usage: python -m tests.bench [--chain] [--cold] [--many] [--without-server] [--print]

Without flags: start-up times and the model server beside MLServer. --chain makes a lab of its own in a
temporary folder, runs `slipway up` in it twice, and takes it down again; --cold does so once with empty
caches of slipway, pip and Go. --many deploys to 10, 100 and 1,000 nodes of kwok, three replicas on each. Figures that were not measured
this time are kept from the page's data (docs/measurements.json), each with its own commit and date.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.hosts.nspawn.labs import lab_name

from tests.bench.play_profile import profile
from tests.lab_traces import traces
from tests.stacks.many_nodes import rehearse

ROOT = Path(__file__).parents[2]
DATA = ROOT / "docs" / "measurements.json"
PAGE = ROOT / "docs" / "measurements.md"
SLIPWAY = Path(sys.executable).with_name("slipway")
RUNS = 7

# What the design asks for, on 2 shared cores and three lab hosts.
BUDGETS = {
    "up_warm": ("`make up`, everything cached", "s", 60),
    "cluster": ("of it: hosts and cluster", "s", 30),
    "up_again": ("`make up` again, nothing to change", "s", 12),
    "up_cold": ("`make up`, fresh machine, modules source", "s", 1100),
    "bake": ("`slipway hosts bake`, with everything else cached", "s", None),
    "site_again": ("second site.yml, three hosts", "s", 8),
    "play_results": ("site.yml with nothing to change, three hosts: tasks x hosts", "", None),
    "play_in_modules": ("its seconds while a module is at work on a host", "s", None),
    "play_outside": ("its other seconds: Ansible's own", "s", None),
    "down": ("`make down`", "s", 3),
    "deploy": ("deploy of 3 replicas until ready, by Pulumi's engine", "s", 20),
    "deploy_again": ("the same again by the engine, nothing to change", "s", 5),
    "deploy_render": ("deploy of 3 replicas until ready, by `render`", "s", 20),
    "deploy_render_again": ("the same again by `render`, nothing to change", "s", None),
    "smoke": ("smoke, 3 replicas and the Service", "s", 10),
    "help": ("`slipway --help`", "s", 0.3),
    "client_import": ("client import", "s", 0.3),
    "server_p50": ("portable server, p50 at batch 1", "ms", 0.8),
    "server_rps": ("portable server, requests/s at 32 in flight", "1/s", 1500),
    "server_start": ("portable server, start to SERVING", "s", None),
    "server_memory": ("portable server, memory at rest", "MB", 400),
    "server_times_mlserver": ("portable server, times MLServer's requests/s in the same run", "x", 1.8),
    "many_deploy": ("deploy of 3,000 replicas on 1,000 nodes: its own part", "s", 30),
    "many_smoke": ("smoke of 3,000 replicas", "s", 60),
    "many_memory": ("the driver's memory at most, 3,000 replicas", "MB", 400),
    "many_page": ("the report's page, 3,000 replicas", "MB", 2),
    "test": ("`make test`, warm", "s", 1000),
}

# Said as long as a figure is that old.
_REBUILT = [
    "Each figure holds for the commit beside it. Those before 2026-11-26 are from before the code was laid out",
    "by stage. Of what is timed, that changed the command line and the client's import, which has its own",
    "messages now; the rest was only moved.",
]

Figures = dict[str, float]  # name in BUDGETS -> its unit
Stages = dict[str, dict[str, float]]  # name in BUDGETS -> stage -> seconds


def median_of(argv: list[str], runs: int = RUNS) -> float:
    """Median wall time of a command in seconds, after one run that is not counted."""
    times = []
    for index in range(runs + 1):
        begin = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        if index:
            times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]


def startup() -> Figures:
    """Seconds of `slipway --help` and of importing the client, over those of an empty interpreter."""
    empty = median_of([sys.executable, "-c", "pass"])
    client = median_of([sys.executable, "-c", "import slipway_client.client"])
    return {"help": median_of([str(SLIPWAY), "--help"]), "client_import": client - empty}


def server() -> Figures:
    """The model server's figures, from its own bench."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_model_server"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    document = json.loads(done.stdout)
    sys.stderr.write(done.stdout)
    ours = document["portable"]
    figures = {name: float(ours[key]) for name, key in SERVER_KEYS.items() if key in ours}
    if "times_mlserver" in document:
        figures["server_times_mlserver"] = document["times_mlserver"]
    return figures


SERVER_KEYS = {
    "server_p50": "p50_ms",
    "server_rps": "requests_per_second",
    "server_start": "seconds_to_serving",
    "server_memory": "resident_mb_at_rest",
}


class Lab:
    """A lab of its own in a folder, taken down at the end."""

    def __init__(self, folder: str, environment: dict[str, str]) -> None:
        self.folder = Path(folder)
        self.environment = environment
        self.down = 0.0  # seconds that took

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *exception: object) -> None:
        self.down, _ = self.run("down")
        left = traces(lab_name(self.folder / ".slipway"))
        assert not left, left

    def bake(self) -> tuple[float, bool]:
        """Seconds of `slipway hosts bake`, and whether there was anything to make."""
        words: list[str | Path] = [SLIPWAY, "hosts", "bake", "--json"]
        begin = time.perf_counter()
        done = subprocess.run(
            words, check=True, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE
        )
        return time.perf_counter() - begin, json.loads(done.stdout)["made"] > 0

    def run(self, *words: str) -> tuple[float, dict[str, float]]:
        """Seconds of `slipway WORDS`, and of each stage of the newest run."""
        begin = time.perf_counter()
        subprocess.run([SLIPWAY, *words], check=True, cwd=self.folder, env=self.environment)
        took = time.perf_counter() - begin
        run = json.loads((self.folder / ".slipway" / "runs" / "latest" / "run.json").read_text())
        return took, {stage["name"]: stage["seconds"] for stage in run["stages"]}


def chain() -> tuple[Figures, Stages]:
    """`slipway up` with warm caches, twice, and the deployment by the other way."""
    figures: Figures = {}
    stages: Stages = {}
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        with Lab(folder, dict(os.environ)) as lab:
            took, made = lab.bake()
            if made:
                figures["bake"] = took
            for name in ("up_warm", "up_again"):
                figures[name], stages[name] = lab.run("up")
            took, seen = profile(ROOT / "playbooks" / "site.yml", lab.folder / ".slipway" / "inventory.yml")
            within = seen.in_modules()
            figures |= {
                "play_results": seen.results,
                "play_in_modules": within,
                "play_outside": took - within,
            }
            stages["play_results"] = seen.slowest(12)
            lab.run("destroy")
            for name in ("deploy_render", "deploy_render_again"):
                _, of = lab.run("deploy", "--set", "deploy.by=render")
                figures[name] = of["deploy"]
        figures["down"] = lab.down
    figures |= {
        "cluster": stages["up_warm"]["hosts"] + stages["up_warm"]["provision"],
        "site_again": stages["up_again"]["provision"],
        "deploy": stages["up_warm"]["deploy"],
        "deploy_again": stages["up_again"]["deploy"],
        "smoke": stages["up_warm"]["smoke"],
    }
    return figures, stages


def cold() -> tuple[Figures, Stages]:
    """`slipway up` as on a fresh machine: no cache of slipway's, of pip's or of Go's."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        environment = {name: value for name, value in os.environ.items() if name != "SLIPWAY_CACHE"}
        environment |= {
            "XDG_CACHE_HOME": f"{folder}/cache",
            "GOCACHE": f"{folder}/go/build",
            "GOMODCACHE": f"{folder}/go/modules",
        }
        with Lab(folder, environment) as lab:
            took, stages = lab.run("up")
        return {"up_cold": took}, {"up_cold": stages}


NODES = (10, 100, 1000)
# Of a rehearsal on many nodes: column of the page -> where its document has it
_MANY = {
    "deploy, s": ("deploy", "seconds"),
    "of it the cluster's, s": ("rollout",),
    "CPU of it, s": ("deploy", "cpu"),
    "again, s": ("deploy again", "seconds"),
    "status, s": ("status", "seconds"),
    "smoke, s": ("smoke", "seconds"),
    "driver in deploy, MB": ("deploy", "driver_mb"),
    "driver in smoke, MB": ("smoke", "driver_mb"),
    "its largest program, MB": ("deploy", "largest_mb"),
    "API requests of deploy": ("deploy", "requests"),
    "of status": ("status", "requests"),
    "of smoke": ("smoke", "requests"),
    "page, MB": ("page", "mb"),
}


def many() -> tuple[Figures, list[dict[str, float]]]:
    """Deployments of three replicas for each node, and the curve: a row for each number of nodes."""
    rows = []
    for nodes in NODES:
        document = rehearse(nodes, 3 * nodes)
        sys.stderr.write(json.dumps(document) + "\n")
        rows.append(
            {
                "nodes": nodes,
                "replicas": 3 * nodes,
                **{name: _at(document, path) for name, path in _MANY.items()},
            }
        )
    last = rows[-1]
    return {
        "many_deploy": last["deploy, s"] - last["of it the cluster's, s"],
        "many_smoke": last["smoke, s"],
        "many_memory": max(last["driver in deploy, MB"], last["driver in smoke, MB"]),
        "many_page": last["page, MB"],
    }, rows


def _at(document: Any, path: tuple[str, ...]) -> float:
    for name in path:
        document = document[name]
    return float(document)


def stamp() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True, cwd=ROOT
    )
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {cpu}, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def page(data: dict[str, Any]) -> str:
    rows = [
        "# Measurements",
        "",
        "Written by `make bench` from what it measured and from the runs' own run.json; edited by nobody.",
        "Goals are those of the design. The machine is shared, so single figures wander; the load average",
        "beside each tells how busy it was when the measurement began.",
        *_REBUILT * any(figure["stamp"]["when"] < "2026-11-26" for figure in data["figures"].values()),
        "",
        "| what | goal | measured | commit | date | load |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (what, unit, goal) in BUDGETS.items():
        figure = data["figures"].get(name)
        if figure is None:
            rows.append(f"| {what} | {_amount(goal, unit)} | not measured | | | |")
            continue
        at = figure["stamp"]
        measured = _amount(figure["value"], unit)
        rows.append(
            f"| {what} | {_amount(goal, unit)} | {measured} | {at['commit']} | {at['when']} | {at['load']} |"
        )
    for name, stages in data.get("stages", {}).items():
        of, part = ("task", "the slowest") if name == "play_results" else ("stage", "by stage")
        rows += ["", f"## {BUDGETS[name][0]}, {part}", "", f"| {of} | seconds |", "| --- | --- |"]
        rows += [f"| {stage} | {seconds:.1f} |" for stage, seconds in stages.items()]
    if curve := data.get("many"):
        names = list(curve["rows"][0])
        at = curve["stamp"]
        rows += ["", "## More nodes and replicas", ""]
        rows += [
            "Nodes that kwok reports for, and pods whose own addresses lead to one real server"
            f" (`tests/stacks/many_nodes.py`); {at['commit']}, {at['when']}, load {at['load']}.",
            "",
        ]
        rows += [f"| {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]
        rows += [f"| {' | '.join(f'{row[name]:g}' for name in names)} |" for row in curve["rows"]]
    machines = sorted({figure["stamp"]["machine"] for figure in data["figures"].values()})
    return "\n".join([*rows, "", f"Machine: {'; '.join(machines)}.", ""])


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    text = (
        f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}".rstrip("0").rstrip(".")
    )
    return f"{text} {unit}".rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chain", action="store_true", help="measure `slipway up` in a lab of its own")
    parser.add_argument("--cold", action="store_true", help="the same once, with empty caches")
    parser.add_argument("--many", action="store_true", help="measure deployments on many nodes")
    parser.add_argument("--without-server", action="store_true", help="leave the model server out")
    parser.add_argument("--print", action="store_true", help="print the page, write nothing")
    parser.add_argument("--seconds", nargs=2, action="append", default=[], metavar=("NAME", "SECONDS"))
    flags = parser.parse_args()
    data: dict[str, Any] = json.loads(DATA.read_text()) if DATA.exists() else {"figures": {}, "stages": {}}
    at = stamp()
    figures = startup() if not flags.seconds else {name: float(value) for name, value in flags.seconds}
    if not flags.seconds and not flags.without_server:
        figures |= server()
    for measure in [chain] * flags.chain + [cold] * flags.cold:
        measured, stages = measure()
        figures |= measured
        data["stages"] |= stages
    if flags.many:
        measured, curve = many()
        figures |= measured
        data["many"] = {"stamp": at, "rows": curve}
    data["figures"] |= {name: {"value": round(value, 4), "stamp": at} for name, value in figures.items()}
    text = page(data)
    if not flags.print:
        DATA.write_text(json.dumps(data, indent=2) + "\n")
        PAGE.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
