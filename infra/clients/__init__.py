"""One file per outside program or protocol: kubectl, Pulumi, Ansible, SSH, image registries.

In: paths, addresses and plain values. Out: typed answers and errors with the program's own words.
Never here: what a stage decides, a default a user could set, a second client for the same thing.
"""
