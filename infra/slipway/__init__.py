"""The driver of slipway: settings -> hosts -> provision -> model -> image -> deploy -> smoke -> report.

In: slipway.yaml, the environment and flags. Out: `.slipway/runs/<time>/` with the proof.
The packages of these names are the chain, `pipeline` is its recipe, `cli` the way in, `status` looks at what
is there; outside programs are reached through `clients`, and `core` is what all of them stand on.
"""

import os

# Plays are forked off this process, for a terminal of their own, while stages beside them speak gRPC. In the
# child gRPC would start its threads again, lose their files before the child has become ansible-playbook, and
# kill it. Read when gRPC is first used.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
