"""Settings: slipway.yaml, the environment and flags, read before the chain.

In: a Request. Out: Settings and where each value came from. Never here: what a stage does with them.
"""
