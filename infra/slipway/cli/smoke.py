"""The proof: of the deployment, or of any one model server."""

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
    typer.Option("--server", metavar="HOST:PORT", help="Any model server instead of the deployment."),
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
        *("--ca", "--ca-file", "--ca_file"),
        metavar="FILE",
        help="With --server: use TLS and trust the CA in this file.",
    ),
]
CertFile = Annotated[
    Path | None,
    typer.Option("--cert", metavar="FILE", help="With --server: use TLS with this certificate of ours."),
]
KeyFile = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The key of --cert.")]
ServerName = Annotated[
    str,
    typer.Option(
        *("--server-name", "--server_name"),
        metavar="NAME",
        help="With --server: the name its certificate must have, where that is not its host.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        *("--token-file", "--token_file"),
        metavar="FILE",
        help="With --server: send the bearer token in this file; without TLS to this machine only.",
    ),
]
SpokenProtocol = Annotated[
    str,
    typer.Option(
        "--protocol",
        metavar="[auto|tensorflow|v2]",
        help="With --server: TensorFlow Serving's API or the Open Inference Protocol.",
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

_PROTOCOLS: dict[str, Literal["auto", "tensorflow", "v2"]] = {
    "auto": "auto",
    "tensorflow": "tensorflow",
    "v2": "v2",
}


def smoke(
    config: Config = None,
    set_: Set = None,
    model: Model = "",
    server: Server = "",
    requests: Requests = None,
    work_dir: WorkDir = None,
    transport: Transport = "grpc",
    tls: WithTls = False,
    ca: CaFile = None,
    cert: CertFile = None,
    key: KeyFile = None,
    server_name: ServerName = "",
    token_file: TokenFile = None,
    protocol: SpokenProtocol = "auto",
    model_name: ModelName = None,
    signature: Signature = "",
    num_tests: NumTests = None,
    concurrency: Concurrency = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Prove that every replica answers correctly.

    Every replica must answer, and no other pod may. With --server one model server is asked instead;
    options marked "With --server" need it.

    \b
    slipway smoke --num-tests 1000
    slipway smoke --server localhost:8500 --requests requests.jsonl
    """
    if requests is not None and work_dir is not None:
        raise UsageError("--requests and --work-dir exclude each other")
    if transport not in ("grpc", "rest"):
        raise UsageError(f"--transport {transport}: expected grpc or rest")
    if protocol not in _PROTOCOLS:
        raise UsageError(f"--protocol {protocol}: expected {', '.join(_PROTOCOLS)}")
    given = {
        "smoke.requests": requests,
        "smoke.num_tests": num_tests,
        "smoke.concurrency": concurrency,
    }
    flags = [*(set_ or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    session = Session(config, flags, verbose=verbose)
    if server:
        from slipway_client.connect import Options
        from slipway_client.credentials import Tls, Token

        from slipway.cli.any_server import about, prove, questions  # numpy and gRPC: not for --help

        spoken: Literal["grpc", "rest"] = "rest" if transport == "rest" else "grpc"
        options: Options = {"protocol": _PROTOCOLS[protocol]}
        if tls or ca or cert or key or server_name:
            options["tls"] = Tls(ca, cert, key, server_name)
        if token_file:
            options["token"] = Token(token_file)
        subject = about(session, model, model_name)
        asked = questions(subject, server, work_dir, signature)
        return prove(session, subject, server, asked, spoken, options, as_json=json)
    alone = {
        "--work-dir": work_dir,
        "--transport": transport != "grpc",
        "--tls": tls,
        "--ca": ca,
        "--cert": cert,
        "--key": key,
        "--server-name": server_name,
        "--token-file": token_file,
        "--protocol": protocol != "auto",
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
