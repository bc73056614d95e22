"""The component for programs in other languages: `pulumi package add stacks/package`."""

from __future__ import annotations

from importlib.metadata import version

from pulumi.provider.experimental import component_provider_host
from slipway_stacks import outputs
from slipway_stacks.model_server import ModelServer

component_provider_host([ModelServer], outputs.PROJECT, version=version("slipway-stacks"))
