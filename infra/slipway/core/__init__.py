"""What every layer may use: the values between stages, errors, events, processes, retries.

In: nothing of slipway. Out: types without behaviour and small mechanisms without policy.
Never here: a stage's knowledge, a default a user could set, an outside program's protocol.
"""
