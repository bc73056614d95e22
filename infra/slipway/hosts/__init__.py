"""Stage hosts: where the machines come from.

In: Settings. Out: Hosts that answer SSH with a pinned key. Never here: what is installed on them.
nspawn/ makes machines, existing.py takes those of an inventory; base.py is their contract and what they
share.
"""
