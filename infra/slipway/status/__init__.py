"""What people ask between runs: how did it go, what runs now, would it work on this machine.

In: a finished run, or the state folder. Out: lines and plain documents. Never here: a change.
"""
