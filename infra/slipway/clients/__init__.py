"""One home per outside program or protocol: kubectl, Pulumi, Ansible, Docker, registries, SSH and more.

In: paths, addresses and plain values. Out: typed answers and what they mean, errors with the program's
own words. Never here: what a stage decides, a default a user could set, a second client for the same thing.
"""
