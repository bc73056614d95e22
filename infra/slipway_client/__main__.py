"""Prove one server from the command line: `slipway-prove HOST:PORT --requests FILE`.

The same program as `python -m slipway_client`. Exit codes: 0 every answer right, 1 wrong answers or errors,
2 wrong use, 3 server not reachable or not ready, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from slipway_client.check import Report, check, selection
from slipway_client.connect import connect
from slipway_client.credentials import Tls, Token
from slipway_client.errors import SlipwayError
from slipway_client.loop import Ended
from slipway_client.requests import read


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. It writes to stdout and stderr only."""
    words = sys.argv[1:] if argv is None else argv
    options = _parser().parse_args([_spelled(word) for word in words])
    try:
        report = _run(options)
    except SlipwayError as error:
        if options.json:
            said = {"ok": False, "error": {"what": error.what, "lines": error.lines()}}
            sys.stdout.write(json.dumps(said) + "\n")
        sys.stderr.write("".join(f"{line}\n" for line in error.lines()))
        return int(error.exit_code or 1)
    except KeyboardInterrupt:
        return 130
    right = report.ok and (report.accuracy is None or report.accuracy >= options.min_accuracy)
    if options.json:
        sys.stdout.write(json.dumps({**report.as_json(), "ok": right}) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(report)))
    return 0 if right else 1


def _run(options: argparse.Namespace) -> Report:
    files = (options.ca, options.cert, options.key)
    tls = Tls(*files, options.server_name) if options.tls or options.server_name or any(files) else None
    token = Token(options.token_file, without_tls=options.token_without_tls) if options.token_file else None
    fixed = read(options.requests)
    with connect(
        options.server,
        options.transport,
        protocol=options.protocol,
        timeout=options.timeout,
        tls=tls,
        token=token,
        contents=options.contents,
        authority=options.authority,
    ) as client:
        return check(
            client,
            options.model_name,
            selection(fixed, options.num_tests),
            concurrency=options.concurrency,
            ready_timeout=options.ready_timeout,
            with_load=options.load,
            on_end=_silent if options.json else _dot,
        )


def _dot(ended: Ended) -> None:
    sys.stdout.write("." if ended.error is None else "x")
    sys.stdout.flush()


def _silent(_ended: Ended) -> None:
    """Print nothing: with --json stdout is one document."""


def _lines(report: Report) -> list[str]:
    bad = report.errors + (report.wrong if report.labelled else report.differences)
    out = ["", f"Inference error rate: {100 * bad / report.requests if report.requests else 100:g}%"]
    out += [f"  {failure}" for failure in report.failures]
    answers = (
        f"{report.compared} compared, {report.differences} differ" if report.compared else "none recorded"
    )
    out.append(f"requests: {report.requests}, errors: {report.errors}; recorded answers: {answers}")
    if report.latency is not None:
        ms = report.latency
        out.append(
            f"latency ms: p50 {ms.p50:g}, p90 {ms.p90:g}, p99 {ms.p99:g}, max {ms.max:g};"
            f" {report.per_second:g} answers/s"
        )
    if report.load is not None:
        found = report.load["latency"] or {}
        word = "stable" if report.load["stable"] else "not stable"
        out.append(
            f"load at {report.load['concurrency']} in flight ({word}): p50 {found.get('p50', 'none')} ms,"
            f" {report.load['per_second']:.0f} answers/s"
        )
    return out


_DESCRIPTION = """\
Ask a model server for predictions, and compare every answer with the recorded
one: a TensorFlow Serving or a server with its API, or one that speaks the Open
Inference Protocol. Prints a dot for each answer and an x for each error, and then
the share of requests that failed or were answered wrong. Flags may be written with
- in place of _.
"""
_EXIT_CODES = """\
exit codes:
  0    every answer is right
  1    an answer is wrong, a request failed, or the accuracy is below --min_accuracy
  2    wrong use: a flag, the file of requests, or the name of the model or of a signature
  3    the server cannot be reached, or no version of the model became available
  130  interrupted
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slipway-prove",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("server", metavar="HOST:PORT", help="address of the server; an IPv6 address in brackets: [::1]:8500")
    add(
        "--requests",
        required=True,
        type=Path,
        metavar="FILE",
        help="requests and their recorded answers, one JSON object a line, gzipped or not",
    )
    add(
        "--num_tests",
        type=_count,
        default=100,
        metavar="N",
        help="number of Predict requests to send, round and round the file's (default: 100)",
    )
    add(
        "--concurrency", type=_count, default=1, metavar="N", help="number of requests in flight (default: 1)"
    )
    add(
        "--transport",
        choices=("grpc", "rest"),
        default="grpc",
        help="how to ask: servers have gRPC on port 8500 and REST on 8501 by custom (default: grpc)",
    )
    add(
        "--model_name",
        default="mnist",
        metavar="NAME",
        help="the name under which the server has the model (default: mnist)",
    )
    add(
        "--timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for each answer (default: 10)",
    )
    add(
        "--ready_timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait until the model is available (default: 10)",
    )
    add(
        "--min_accuracy",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="exit with 1 when a smaller share of the labelled rows is classified right (default: 0)",
    )
    add(
        "--protocol",
        choices=("auto", "tensorflow", "v2"),
        default="auto",
        help="TensorFlow Serving's API, or v2, the Open Inference Protocol of KServe, Triton, MLServer and"
        " OpenVINO Model Server (default: auto, which asks the server)",
    )
    add(
        "--contents",
        choices=("raw", "typed"),
        help="with v2: write tensors as bytes, or as values (default: raw with grpc, typed with rest)",
    )
    add("--tls", action="store_true", help="speak TLS and trust the CAs this machine trusts")
    add("--ca", "--ca_file", type=Path, metavar="FILE", help="speak TLS and trust the CA in this PEM file")
    add("--cert", type=Path, metavar="FILE", help="speak TLS with this certificate of the client's own")
    add("--key", type=Path, metavar="FILE", help="the key of --cert, a PEM file without a password")
    add(
        "--server_name",
        default="",
        metavar="NAME",
        help="the name that the server's certificate must have, where it is not HOST",
    )
    add(
        "--authority",
        default="",
        metavar="NAME",
        help="the name to ask for where one address has many servers, as KServe's ingress (default: HOST)",
    )
    add(
        "--token_file",
        type=Path,
        metavar="FILE",
        help="send the token in this file with every request; it is read again when it changes",
    )
    add(
        "--token_without_tls",
        action="store_true",
        help="send the token without TLS to other machines too, where something else encrypts",
    )
    add(
        "--load",
        action="store_true",
        help="afterwards keep --concurrency requests in flight until their median latency is stable",
    )
    add("--json", action="store_true", help="print one JSON document on stdout and nothing else there")
    return parser


def _spelled(word: str) -> str:
    """A flag as it is declared: --num-tests is --num_tests."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return f"--{flag[2:].replace('-', '_')}{equals}{value}"


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 86400:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text}")
    return number


def _main() -> NoReturn:
    sys.exit(main())


if __name__ == "__main__":
    _main()
