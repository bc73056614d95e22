"""The MNIST client as a command: `python -m infra.predict --server HOST:PORT ...`.

Exit codes: 0 every answer right, 1 wrong answers or errors, 2 wrong use, 3 server not reachable or not
ready, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from infra.core.errors import SlipwayError, UsageError
from infra.predict.check import Report, check, selection
from infra.predict.client import Tls, connect
from infra.predict.idx import images_as_requests
from infra.predict.loop import Ended
from infra.predict.requests import read


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; stdout and stderr are all it writes."""
    options = _parser().parse_args(argv)
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
    if (options.requests is None) == (options.work_dir is None):
        raise UsageError(
            "nothing to ask" if options.requests is None else "--requests and --work_dir exclude each other",
            action="give --requests FILE (recorded answers) or --work_dir DIR (MNIST's IDX test files)",
        )
    tls = Tls(options.ca_file) if options.tls or options.ca_file else None
    fixed = read(options.requests) if options.requests else None
    with connect(options.server, options.transport, timeout=options.timeout, tls=tls) as client:
        if fixed is not None:
            asked = selection(fixed, options.num_tests)
        else:
            asked = images_as_requests(
                client,
                options.model_name,
                options.work_dir,
                options.num_tests,
                ready_timeout=options.ready_timeout,
                signature=options.signature,
            )
        return check(
            client,
            options.model_name,
            asked,
            concurrency=options.concurrency,
            ready_timeout=options.ready_timeout,
            with_load=options.load,
            on_end=_silent if options.json else _dot,
        )


def _dot(ended: Ended) -> None:
    sys.stdout.write("." if ended.error is None else "x")
    sys.stdout.flush()


def _silent(_ended: Ended) -> None:
    """With --json stdout is one document."""


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.predict",
        description="Ask a TensorFlow Serving for predictions and compare them with the expected ones.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--server", required=True, metavar="HOST:PORT", help="the model server; [::1]:8500 for IPv6")
    add("--requests", type=Path, metavar="FILE", help="fixed requests and their recorded answers (JSONL)")
    add("--work_dir", type=Path, metavar="DIR", help="folder with MNIST's IDX test files")
    add("--num_tests", type=_count, default=100, metavar="N", help="requests to send (100)")
    add("--concurrency", type=_count, default=1, metavar="N", help="requests in flight (1)")
    add("--transport", choices=("grpc", "rest"), default="grpc", help="port 8500 is grpc, 8501 rest (grpc)")
    add("--model_name", default="mnist", metavar="NAME", help="the model's name (mnist)")
    add("--signature", default="", metavar="NAME", help="with --work_dir: the signature that takes images")
    add("--timeout", type=_seconds, default=10.0, metavar="S", help="seconds for each request (10)")
    add("--ready_timeout", type=_seconds, default=10.0, metavar="S",
        help="seconds until the model must be available (10)")  # fmt: skip
    add("--min_accuracy", type=float, default=0.0, metavar="SHARE",
        help="share of right answers, where labels are known, below which to exit 1 (0)")  # fmt: skip
    add("--tls", action="store_true", help="speak TLS, trusting this machine's CAs")
    add("--ca_file", type=Path, metavar="FILE", help="speak TLS, trusting this PEM file")
    add("--load", action="store_true", help="then keep --concurrency requests in flight until p50 is stable")
    add("--json", action="store_true", help="one JSON document on stdout")
    return parser


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
