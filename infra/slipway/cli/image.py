"""The serving image."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.chain import run_chain
from slipway.cli.options import Config, Json, Model, Set, Verbose
from slipway.cli.printing import show
from slipway.cli.session import Session
from slipway.core.errors import UsageError


def build(
    config: Config = None, set_: Set = None, model: Model = "", json: Json = False, verbose: Verbose = False
) -> int:
    """Build, try, push and sign the serving image.

    Does nothing when the registry has it already.
    """
    session = Session(config, set_, verbose=verbose)
    return run_chain(session, "image build", first="image", last="image", only=model, as_json=json)


def verify(
    image: Annotated[
        str,
        typer.Argument(
            metavar="[IMAGE]",
            help="HOST/REPOSITORY:TAG, HOST/REPOSITORY@sha256:..., or the folder of an OCI layout. "
            "Default: the image built here last.",
        ),
    ] = "",
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Public key in PEM. Default: of the key that signs here."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no registry: read the state folder or an OCI layout.")
    ] = False,
    model: Model = "",
    config: Config = None,
    set_: Set = None,
    json: Json = False,
) -> int:
    """Check the signature, bill of materials and provenance of an image.

    Exits with 5 when one of them is missing, changed, signed by another key or about another image.

    \b
    slipway image verify
    slipway image verify --offline --key cosign.pub ./layout
    """
    from slipway.image import origin, reference, signing

    session = Session(config, set_)
    name, settings = ("", session.settings) if image and not model else session.one(model)
    with session.looking("image verify") as ctx:
        public = signing.public_key(key) if key is not None else signing.kept_key(ctx.state, settings)
        if public is None:
            raise UsageError("there is no key to check with", action="name the signer's: --key cosign.pub")
        store, where, digest = reference.resolve(ctx.of(name), settings, image, offline=offline)
        proved = origin.verify(store, where, digest, public)

    def lines() -> list[str]:
        return [
            f"{where} is {digest}",
            f"signed by the key {proved.key}",
            f"bill of materials: {proved.packages} packages",
            f"built from {proved.revision or 'an unknown commit'} on {proved.base}, {proved.built}",
        ]

    show(asdict(proved), json, lines)
    return 0
