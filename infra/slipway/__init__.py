"""The driver of slipway: settings -> hosts -> provision -> model -> image -> deploy -> smoke -> report.

In: slipway.yaml, the environment and flags. Out: `.slipway/runs/<time>/` with the proof.
The packages of these names are the chain, `pipeline` is its recipe, `cli` the way in, `status` looks at what
is there; outside programs are reached through `clients`, and `core` is what all of them stand on.
"""
