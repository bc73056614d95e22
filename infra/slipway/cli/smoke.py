"""The proof: of the deployment, or of any one TensorFlow Serving."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from slipway.cli.chain import run_chain
from slipway.cli.options import Config, Json, Model, Set, Verbose
from slipway.cli.session import Session
from slipway.core.errors import UsageError

Server = Annotated[
    str,
    typer.Option("--server", metavar="HOST:PORT", help="Any TensorFlow Serving instead of the deployment."),
]
Requests = Annotated[
    Path | None,
    typer.Option("--requests", metavar="FILE", help="A JSONL file of requests and the answers expected."),
]
WorkDir = Annotated[
    Path | None,
    typer.Option(
        "--work-dir",
        "--work_dir",
        metavar="DIR",
        help="With --server: a folder with MNIST's IDX test files; their images are asked.",
    ),
]
Transport = Annotated[
    str, typer.Option("--transport", metavar="[grpc|rest]", help="With --server: what its port speaks.")
]
WithTls = Annotated[bool, typer.Option("--tls", help="With --server: use TLS and trust this machine's CAs.")]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file", "--ca_file", metavar="FILE", help="With --server: use TLS and trust the CA in this file."
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model-name",
        "--model_name",
        metavar="NAME",
        help="With --server: the name of the model to ask. Default: model.name.",
    ),
]
Signature = Annotated[
    str,
    typer.Option("--signature", metavar="NAME", help="With --work-dir: the signature to send the images to."),
]
NumTests = Annotated[
    int | None,
    typer.Option(
        "--num-tests", "--num_tests", metavar="N", help="Requests to each replica. Default: smoke.num_tests."
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", metavar="N", help="Requests in flight. Default: smoke.concurrency."),
]


def smoke(
    config: Config = None,
    set_: Set = None,
    model: Model = "",
    server: Server = "",
    requests: Requests = None,
    work_dir: WorkDir = None,
    transport: Transport = "grpc",
    tls: WithTls = False,
    ca_file: CaFile = None,
    model_name: ModelName = None,
    signature: Signature = "",
    num_tests: NumTests = None,
    concurrency: Concurrency = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Prove that every replica answers correctly.

    Every replica must answer, and no other pod may. With --server one TensorFlow Serving is asked instead;
    options marked "With --server" need it.

    \b
    slipway smoke --num-tests 1000
    slipway smoke --server localhost:8500 --requests requests.jsonl
    """
    if requests is not None and work_dir is not None:
        raise UsageError("--requests and --work-dir exclude each other")
    if transport not in ("grpc", "rest"):
        raise UsageError(f"--transport {transport}: expected grpc or rest")
    given = {
        "smoke.requests": requests,
        "smoke.num_tests": num_tests,
        "smoke.concurrency": concurrency,
    }
    flags = [*(set_ or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    session = Session(config, flags, verbose=verbose)
    if server:
        from slipway_client.client import Tls

        from slipway.cli.any_server import about, prove, questions  # numpy and gRPC: not for --help

        spoken: Literal["grpc", "rest"] = "rest" if transport == "rest" else "grpc"
        trust = Tls(ca_file) if tls or ca_file else None
        subject = about(session, model, model_name)
        asked = questions(subject, server, work_dir, signature)
        return prove(session, subject, server, asked, spoken, trust, as_json=json)
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
    if requests is not None:
        session.one(model)  # they are about one
    return run_chain(session, "smoke", first="smoke", last="smoke", only=model, as_json=json)
