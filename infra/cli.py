"""Flags and verbs. The only module that reads flags, and the only caller of exit."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from infra.core.console import Console
    from infra.core.context import Context
    from infra.core.schema import Settings
    from infra.core.types import Request
    from infra.pipeline import Ended
    from infra.predict.client import Tls

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file; ./slipway.yaml when it exists."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. hosts.workers=3; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; people read stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Every task and command as it happens.")]

app = typer.Typer(
    name="slipway",
    help="From bare Ubuntu or Debian hosts to TensorFlow Serving on Kubernetes, proved on every replica.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
hosts_app = typer.Typer(help="The machines of this lab.", no_args_is_help=True)
model_app = typer.Typer(help="The model: train, export, inspect, save, restore.", no_args_is_help=True)
image_app = typer.Typer(help="The serving image.", no_args_is_help=True)
app.add_typer(hosts_app, name="hosts")
app.add_typer(model_app, name="model")
app.add_typer(image_app, name="image")


def main() -> NoReturn:
    """Run the command line and exit with its code: 0 proven, 1 gate, 2 use, 3 environment, 4 provision,
    5 model or image, 6 deploy, 130 interrupted."""
    from infra.core.errors import SlipwayError

    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(standalone_mode=False)
    except SlipwayError as error:
        from infra.core.console import Console

        Console().error(error)
        sys.exit(error.exit_code or 3)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        show = getattr(error, "show", None)  # click's own usage errors
        if show is None:
            raise
        show()
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _terminated(_signal: int, _frame: object) -> NoReturn:
    """SIGTERM ends a run as Ctrl-C does: children ended, evidence kept, report written."""
    raise KeyboardInterrupt


class Session:
    """One command: its request, context and console."""

    def __init__(
        self, config: Path | None, flags: list[str] | None, *, verbose: bool = False, keep: bool = True
    ) -> None:
        from infra.core.console import Console
        from infra.core.types import Request
        from infra.pipeline import new_context

        if config is None and Path("slipway.yaml").is_file():
            config = Path("slipway.yaml")
        environment = {name: value for name, value in os.environ.items() if name.startswith("SLIPWAY_")}
        self.request: Request = Request(config.resolve() if config else None, environment, tuple(flags or ()))
        from infra.settings import read

        self.settings: Settings = read(self.request)[0]  # refused before anything is touched
        self.console: Console = Console(verbose=verbose)
        self.context: Context = new_context(self.request.config, Path.cwd(), self.console, keep=keep)

    @contextmanager
    def owning(self, verb: str) -> Iterator[Context]:
        """Hold the state folder's lock and keep a log while inside."""
        from infra.core.lock import held

        with held(self.context.state, verb), self.console.recording(self.context.run / "slipway.log"):
            yield self.context


def _chain(verb: str, session: Session, *, first: str = "", last: str = "", as_json: bool = False) -> int:
    """Run stages and tell how it went. Returns the exit code."""
    from infra import pipeline

    with session.owning(verb) as ctx:
        ended = pipeline.run(ctx, session.request, first=first, last=last)
        _tell(session, ended)
    if as_json:
        sys.stdout.write((ctx.run / "run.json").read_text(encoding="utf-8"))
    return ended.exit_code


def _tell(session: Session, ended: Ended) -> None:
    from infra.overview.closing import closing_lines

    if ended.error is not None:
        session.console.error(ended.error)
    session.console.line()
    for text in closing_lines(ended.run, session.context):
        session.console.line(text)


def _print(document: object, as_json: bool, lines: Callable[[], list[str]]) -> None:
    """One JSON document, or lines, on stdout."""
    if as_json:
        import json

        sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines()))


@app.command()
def up(
    config: Config = None,
    set_: Set = None,
    start: Annotated[
        str, typer.Option("--from", metavar="STAGE", help="Start here; earlier values are the last run's.")
    ] = "",
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Do the whole chain: hosts, provision, model, image, deploy, smoke, report."""
    return _chain("up", Session(config, set_, verbose=verbose), first=start, as_json=json)


@app.command()
def plan(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Say what `up` would change; change nothing."""
    from infra import pipeline

    session = Session(config, set_, verbose=verbose)
    with session.owning("plan") as ctx:
        steps = pipeline.plan(ctx, session.request)
    count = sum(len(lines) for _, lines in steps)

    def lines() -> list[str]:
        out = [f"{name}: {line}" for name, each in steps for line in each]
        return [*out, f"{count} changes" if count else "nothing would change"]

    _print({"changes": count, "stages": [{"name": name, "plan": each} for name, each in steps]}, json, lines)
    return 0


@app.command()
def down(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Remove every trace of the lab from this machine; reports of runs and caches stay."""
    from infra import pipeline

    session = Session(config, set_, verbose=verbose, keep=False)
    with session.owning("down") as ctx:
        removed = pipeline.down(ctx, session.settings)
    _print({"removed": removed}, json, lambda: removed or ["nothing to remove"])
    return 0


@app.command()
def status(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """Say what runs now: hosts, nodes, replicas, and how the last run ended."""
    from infra.overview.status import status_of

    session = Session(config, set_, keep=False)
    document, lines = status_of(session.context, session.settings)
    _print(document, json, lambda: lines)
    return 0


@app.command()
def doctor(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """Check this machine before anything is changed; exit 3 when something needed is missing."""
    from infra.overview.doctor import examine

    session = Session(config, set_, keep=False)
    checks = examine(session.context, session.settings)
    _print([vars(check) for check in checks], json, lambda: [check.line() for check in checks])
    return 0 if all(check.ok or not check.needed for check in checks) else 3


@app.command()
def env(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """Print KUBECONFIG, PATH and PULUMI_* for a shell: eval "$(slipway env)"."""
    from infra import deploy

    session = Session(config, set_, keep=False)
    variables = deploy.env(session.context, session.settings)
    _print(
        variables,
        json,
        lambda: [f"export {name}={_quoted(name, value)}" for name, value in variables.items()],
    )
    return 0


def _quoted(name: str, value: str) -> str:
    return f"{shlex.quote(value)}:$PATH" if name == "PATH" else shlex.quote(value)


@app.command()
def settings(
    config: Config = None,
    set_: Set = None,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON Schema of slipway.yaml.")] = False,
    json: Json = False,
) -> int:
    """List every setting: its value, where that comes from, and what it means."""
    from infra.core.schema import Settings, leaves
    from infra.core.sources import without_login
    from infra.settings import read, variable

    if schema:
        _print(Settings.model_json_schema(), True, list)
        return 0
    session = Session(config, set_, keep=False)
    values, sources = read(session.request)

    def value(key: str) -> Any:
        section, name = key.split(".")
        found = getattr(getattr(values, section), name)
        return without_login(found) if isinstance(found, str) else found

    rows = [
        {
            "key": key,
            "value": value(key),
            "source": sources[key].where if key in sources else "default",
            "variable": variable(key),
            "meaning": info.description,
        }
        for key, info in leaves().items()
    ]
    _print(
        rows,
        json,
        lambda: [f"{row['key']} = {row['value']}  ({row['source']})\n    {row['meaning']}" for row in rows],
    )
    return 0


@hosts_app.command("up")
def hosts_up(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Make or start the machines."""
    return _chain("hosts up", Session(config, set_, verbose=verbose), last="hosts", as_json=json)


@hosts_app.command("down")
def hosts_down(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Remove the machines slipway made; the rest of the state folder stays."""
    from infra.hosts import take_down

    session = Session(config, set_, verbose=verbose, keep=False)
    with session.owning("hosts down") as ctx:
        removed = take_down(ctx)
    _print({"removed": removed}, json, lambda: removed or ["nothing to remove"])
    return 0


@hosts_app.command("list")
def hosts_list(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """List the machines: name, address, groups."""
    from dataclasses import asdict

    hosts = _hosts(Session(config, set_, keep=False))
    rows = [asdict(host) for host in hosts.hosts]
    _print(
        rows,
        json,
        lambda: [f"{h.name:<12} {h.user}@{h.address}:{h.port}  {', '.join(h.groups)}" for h in hosts.hosts],
    )
    return 0


@hosts_app.command("ssh", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def hosts_ssh(context: typer.Context, name: str, config: Config = None, set_: Set = None) -> int:
    """Open a shell on a machine, or run a command there."""
    session = Session(config, set_, keep=False)
    hosts = _hosts(session)
    host = next((host for host in hosts.hosts if host.name == name), None)
    if host is None:
        from infra.core.errors import UsageError

        raise UsageError(
            f"no host {name}", action=f"hosts are {', '.join(host.name for host in hosts.hosts)}"
        )
    known = session.context.state.ssh / "known_hosts"
    argv = [
        "ssh",
        "-p",
        str(host.port),
        "-o",
        f"UserKnownHostsFile={known}",
        "-o",
        "StrictHostKeyChecking=yes",
    ]
    argv += ["-i", str(hosts.identity), "-o", "IdentitiesOnly=yes"] if hosts.identity else []
    os.execvp("ssh", [*argv, f"{host.user}@{host.address}", *context.args])  # noqa: S606, S607  # becomes ssh


def _hosts(session: Session) -> Any:
    from infra.core.errors import UsageError
    from infra.core.types import Hosts
    from infra.pipeline import saved_value

    hosts = saved_value(session.context, Hosts)
    if hosts is None:
        raise UsageError("there are no hosts yet", action="`slipway hosts up` makes them")
    return hosts


@app.command()
def provision(
    config: Config = None,
    set_: Set = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing, say what would change.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show the differences in files.")] = False,
    tags: Annotated[
        str, typer.Option("--tags", help="Only tasks with these tags, e.g. docker_configure.")
    ] = "",
    limit: Annotated[str, typer.Option("--limit", help="Only these hosts or groups.")] = "",
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Bring the machines to a Kubernetes cluster with Docker and a registry: playbooks/site.yml."""
    session = Session(config, set_, verbose=verbose)
    if not (check or diff or tags or limit):
        return _chain("provision", session, first="provision", last="provision", as_json=json)
    from dataclasses import asdict

    from infra.provision import play

    hosts = _hosts(session)
    with session.owning("provision") as ctx:
        played = play(ctx, session.settings, hosts, check=check, diff=diff, tags=tags, limit=limit)
    rows = {name: asdict(each) for name, each in played.hosts.items()}
    _print(
        rows,
        json,
        lambda: [
            f"{name:<12} ok {h.ok}  changed {h.changed}  failed {h.failed}"
            for name, h in played.hosts.items()
        ],
    )
    return 0


@image_app.command("build")
def image_build(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Build the serving image, try it under Docker and push it; a no-op when the registry has it."""
    return _chain(
        "image build", Session(config, set_, verbose=verbose), first="image", last="image", as_json=json
    )


@app.command("deploy")
def deploy_(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Apply the deployment and wait until every replica is ready."""
    return _chain(
        "deploy", Session(config, set_, verbose=verbose), first="deploy", last="deploy", as_json=json
    )


@app.command()
def preview(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Say what `deploy` would change in the cluster; change nothing."""
    from infra.deploy import Deploy

    session, cluster, image = _deployable(config, set_, verbose)
    lines = Deploy().plan(session.context, session.settings, cluster, image)
    _print(lines, json, lambda: lines or ["nothing would change"])
    return 0


@app.command()
def render(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """Print the deployment's manifests, for review or GitOps; they hold no secret."""
    import yaml

    from infra.deploy import render as manifests

    session, _, image = _deployable(config, set_, False)
    documents = manifests(session.settings, image)
    if json:
        _print(documents, True, list)
    else:
        sys.stdout.write(yaml.safe_dump_all(documents, sort_keys=False))
    return 0


@app.command()
def destroy(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Remove the deployment from the cluster; the cluster stays."""
    from infra.deploy import destroy as remove

    session, cluster, _ = _deployable(config, set_, verbose)
    with session.owning("destroy") as ctx:
        removed = remove(ctx, session.settings, cluster)
    _print({"removed": removed}, json, lambda: removed or ["nothing to remove"])
    return 0


def _deployable(config: Path | None, set_: list[str] | None, verbose: bool) -> tuple[Session, Any, Any]:
    from infra.core.errors import UsageError
    from infra.core.types import Cluster, ImageRef
    from infra.pipeline import STAGES, produces, saved_value

    session = Session(config, set_, verbose=verbose, keep=False)
    cluster, image = saved_value(session.context, Cluster), saved_value(session.context, ImageRef)
    if cluster is None and session.settings.cluster.kubeconfig is not None:
        stage: Any = next(stage for stage in STAGES if produces(stage) is Cluster)
        cluster = stage.provided(session.context, session.settings).value
    if cluster is None or image is None:
        missing, verb = (
            ("cluster", "slipway provision") if cluster is None else ("image", "slipway image build")
        )
        raise UsageError(
            f"there is no {missing} yet", action=f"`{verb}` makes it, `slipway up` does the whole chain"
        )
    return session, cluster, image


@app.command()
def smoke(
    config: Config = None,
    set_: Set = None,
    server: Annotated[
        str, typer.Option("--server", metavar="HOST:PORT", help="Any TensorFlow Serving, not the deployment.")
    ] = "",
    requests: Annotated[
        Path | None,
        typer.Option("--requests", metavar="FILE", help="JSONL of requests and expected answers."),
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(
            "--work-dir", "--work_dir", help="With --server: folder of MNIST's IDX test files to ask."
        ),
    ] = None,
    transport: Annotated[str, typer.Option("--transport", help="With --server: grpc or rest.")] = "grpc",
    tls: Annotated[
        bool, typer.Option("--tls", help="With --server: speak TLS, trusting this machine's CAs.")
    ] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            "--ca_file",
            metavar="FILE",
            help="With --server: speak TLS, trusting the CA in this PEM file.",
        ),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option("--model-name", "--model_name", help="With --server: the model it serves.")
    ] = None,
    signature: Annotated[
        str, typer.Option("--signature", help="With --work-dir: the signature that takes images.")
    ] = "",
    num_tests: Annotated[
        int | None, typer.Option("--num-tests", "--num_tests", help="Requests to each replica.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Requests in flight.")] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Prove every replica: right answers, none missing, none that does not belong."""
    from infra.core.errors import UsageError

    given = {
        "smoke.requests": requests,
        "smoke.num_tests": num_tests,
        "smoke.concurrency": concurrency,
        "model.name": model_name,
    }
    flags = [*(set_ or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    if requests is not None and work_dir is not None:
        raise UsageError("--requests and --work-dir exclude each other")
    if server:
        from infra.predict.client import Tls

        return _smoke_server(
            Session(config, flags, verbose=verbose, keep=False),
            server,
            work_dir,
            transport,
            signature=signature,
            tls=Tls(ca_file) if tls or ca_file else None,
            as_json=json,
        )
    alone = {
        "--work-dir": work_dir,
        "--transport": transport != "grpc",
        "--tls": tls,
        "--ca-file": ca_file,
        "--model-name": model_name,
        "--signature": signature,
    }
    if useless := [name for name, value in alone.items() if value]:
        raise UsageError(
            f"{', '.join(useless)}: only with --server", action="name the server, HOST:PORT, with --server"
        )
    session = Session(config, flags, verbose=verbose)
    return _chain("smoke", session, first="smoke", last="smoke", as_json=json)


def _smoke_server(
    session: Session,
    server: str,
    work_dir: Path | None,
    transport: str,
    *,
    signature: str,
    tls: Tls | None,
    as_json: bool,
) -> int:
    import json

    from infra.core.errors import UsageError
    from infra.core.types import ExportedModel, dump
    from infra.pipeline import saved_value
    from infra.smoke import prove_server, require

    if transport not in ("grpc", "rest"):
        raise UsageError(f"--transport {transport}: expected grpc or rest")
    model = saved_value(session.context, ExportedModel)
    file = session.settings.smoke.requests or (model.requests if model else None)
    if work_dir is not None:
        file = None
    elif file is None:
        raise UsageError(
            f"nothing says what to ask {server}",
            action="name a JSONL file with --requests or MNIST's test files with --work_dir; "
            "`slipway model train` makes requests for MNIST",
        )
    proof = prove_server(
        server,
        session.settings,
        file,
        work_dir=work_dir,
        signature=signature,
        transport="rest" if transport == "rest" else "grpc",
        tls=tls,
    )

    def lines() -> list[str]:
        gates = [
            f"{'ok    ' if gate.ok else 'FAILED'}  {gate.name}: {gate.value:g} (limit {gate.limit:g}) {gate.note}".rstrip()
            for gate in proof.gates
        ]
        rate = "" if proof.accuracy is None else f"Inference error rate: {100 * (1 - proof.accuracy):.1f}%"
        return [*gates, *filter(None, [rate]), f"{server}: {proof.requests} requests"]

    _print(json.loads(dump(proof)), as_json, lines)
    require(proof)
    return 0


@app.command()
def report(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """Say how the last run ended and where its report is."""
    import json as json_module

    from infra.core.errors import UsageError

    session = Session(config, set_, keep=False)
    latest = session.context.state.runs / "latest"
    if not (latest / "run.json").is_file():
        raise UsageError("no run has been reported yet", action="`slipway up` makes one")
    document = json_module.loads((latest / "run.json").read_text(encoding="utf-8"))

    def first_line(reason: str) -> str:
        return reason.splitlines()[0] if reason else ""

    _print(
        document,
        json,
        lambda: [
            *(
                f"{stage['name']:<10} {stage['status']:<10} {stage['seconds']:7.1f} s  {first_line(stage['reason'])}"
                for stage in document["stages"]
            ),
            f"{'ok' if document['ok'] else 'failed'}: {latest.resolve() / 'index.html'}",
        ],
    )
    return 0 if document["ok"] else 1


@model_app.command("train")
def model_train(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Train and export the next version; a no-op when nothing changed."""
    from infra.core.errors import UsageError

    given = Session(config, set_, keep=False).settings.model.weights
    if given is not None:
        raise UsageError(
            f"model.weights brings {given}, so nothing would be trained",
            action="`slipway model export` exports it; leave model.weights out to train",
        )
    return _chain(
        "model train", Session(config, set_, verbose=verbose), first="model", last="model", as_json=json
    )


@model_app.command("export")
def model_export(
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Export these weights instead of trained ones: a checkpoint, .keras, .h5 or .weights.h5 file; "
            "setting model.weights for this run.",
        ),
    ] = None,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Export the next version of the model, trained or restored; trains first where nothing is trained with
    these settings."""
    from dataclasses import replace

    from infra.settings import read

    flags = [*(set_ or []), *([f"model.weights={from_}"] if from_ is not None else [])]
    session = Session(config, flags, verbose=verbose)
    code = _chain("model export", session, first="model", last="model", as_json=json)
    lasting = from_ is None or read(replace(session.request, flags=tuple(set_ or ())))[0].model.weights
    if not lasting and code == 0:
        session.console.line(
            f"`slipway up` trains again unless slipway.yaml says `model: {{weights: {from_}}}`"
        )
    return code


@model_app.command("inspect")
def model_inspect(path: Path, json: Json = False) -> int:
    """Describe any SavedModel: signatures, versions, size, accuracy."""
    from dataclasses import asdict

    from infra.mnist import saved_model

    description = saved_model.inspect(path)
    _print(asdict(description), json, lambda: saved_model.as_text(description).splitlines())
    return 0


Variables = Annotated[
    list[str] | None, typer.Option("--variable", help="Checkpoints: a name or pattern; may be repeated.")
]
Rename = Annotated[
    list[str] | None,
    typer.Option("--rename", metavar="IN_FILE=VARIABLE", help="Checkpoints: another name in the file."),
]


@model_app.command("save")
def model_save(
    path: Path,
    variable: Variables = None,
    rename: Rename = None,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
) -> int:
    """Save the trained model, or the one of model.weights; the form follows from the name: .keras, .h5, .json, .yaml, .weights.h5, else a
    tf.train.Saver checkpoint."""
    from dataclasses import asdict

    from infra import model
    from infra.mnist import saved_files

    session = Session(config, set_, keep=False)
    with session.console.recording(None):
        images = model.images(session.context, session.settings)
        saved = saved_files.save(
            model.weights(session.context, session.settings, images),
            path,
            images=len(images.train.labels),
            variables=variable or (),
            rename=_renames(rename),
            emit=session.console,
        )
    _print(asdict(saved), json, lambda: [f"{saved.kind}: {file}" for file in saved.files])
    return 0


@model_app.command("restore")
def model_restore(
    path: Path,
    variable: Variables = None,
    rename: Rename = None,
    architecture: Annotated[
        Path | None, typer.Option("--architecture", help=".json or .yaml, for weights alone.")
    ] = None,
    epochs: Annotated[
        int, typer.Option("--epochs", min=0, help="Whole models: train on from where it stopped.")
    ] = 0,
    to: Annotated[Path | None, typer.Option("--to", help="Save the outcome there.")] = None,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
) -> int:
    """Restore a saved model in a fresh process and measure it on held-out images."""
    from infra import model
    from infra.mnist import saved_files

    session = Session(config, set_, keep=False)
    with session.console.recording(None):
        outcome = saved_files.restore(
            path,
            model.recipe(session.settings),
            model.images(session.context, session.settings),
            variables=variable or (),
            rename=_renames(rename),
            architecture=architecture,
            epochs=epochs,
            to=to,
            emit=session.console,
        )
    document = {
        "path": path,
        "kind": outcome.kind,
        "restored": outcome.restored,
        "kept": outcome.kept,
        "accuracy": outcome.accuracy,
        "steps": outcome.steps,
    }
    _print(
        document,
        json,
        lambda: [
            f"restored: {', '.join(outcome.restored) or 'nothing'}",
            f"kept:     {', '.join(outcome.kept) or 'nothing'}",
            f"accuracy: {outcome.accuracy:.3f} on held-out images",
        ],
    )
    return 0


def _renames(given: list[str] | None) -> dict[str, str] | None:
    from infra.core.errors import UsageError

    pairs = [each.partition("=") for each in given or ()]
    if wrong := [name for name, equals, variable in pairs if not (name and equals and variable)]:
        raise UsageError(f"--rename {wrong[0]}: expected NAME_IN_FILE=VARIABLE")
    return {name: variable for name, _, variable in pairs} or None
