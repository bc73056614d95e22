"""Backend lxd: hosts that are LXD's system containers, on this machine or on another with LXD.

In: settings, and where LXD is. Out: Hosts. Never here: installing LXD, which is role lxd's.
"""
