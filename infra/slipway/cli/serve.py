"""The model on hosts of group model_server."""

from __future__ import annotations

from slipway.cli.chain import run_chain
from slipway.cli.options import Config, Json, Model, Set, Verbose
from slipway.cli.session import Session


def serve(
    config: Config = None, set_: Set = None, model: Model = "", json: Json = False, verbose: Verbose = False
) -> int:
    """Serve the model on the hosts of group model_server.

    Runs playbooks/model_server.yml with the hosts and the model of the last run: no cluster is needed. Each
    server is asked; one that answers otherwise than the model's export did is a failure, told with the
    server's own last lines.

    \b
    slipway hosts up && slipway model export && slipway serve
    """
    session = Session(config, set_, verbose=verbose)
    return run_chain(session, "serve", first="serve", last="serve", only=model, as_json=json)
