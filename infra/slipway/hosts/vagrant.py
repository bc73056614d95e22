"""Backend vagrant: the machines of a Vagrantfile, which `vagrant up` makes and `vagrant destroy` removes."""

from __future__ import annotations

from slipway.hosts.existing import Existing


class Vagrant(Existing):
    name = "vagrant"
