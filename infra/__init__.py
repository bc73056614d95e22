"""The driver of slipway: settings -> hosts -> provision -> model -> image -> deploy -> smoke -> report.

In: slipway.yaml, the environment and flags. Out: `.slipway/runs/<time>/` with the proof.
Besides cli and pipeline, each module here is one stage; outside programs are reached through clients/ only.
"""

__version__ = "0.1.0"
