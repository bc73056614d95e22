"""The clouds that machines can be made in: what each calls them by default, and what that costs about.

Prices are list prices without taxes, rounded, and only told: what a machine costs its provider decides. Needs
no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

Cloud = Literal["aws", "google", "azure", "hetzner", "openstack", "here"]
CLOUDS: Final[tuple[str, ...]] = get_args(Cloud)

HOURS: Final = 730  # of a month, as providers count


@dataclass(frozen=True)
class Prices:
    """What things cost, in `currency`. machines: an hour of each size. disk: a month of a GB.

    address: an hour of a public IPv4 address; 0 where it is in the machine's price. region: where.
    """

    currency: str
    region: str
    machines: Mapping[str, float]
    disk: float
    address: float
    date: str
    source: str


@dataclass(frozen=True)
class Offer:
    """A cloud. module: where its machines are made. region, size, image: defaults; None where there is none.

    package: the provider's SDK. settings: what its provider wants in the stack's configuration, and whether
    that is the region or the zone. files: what a machine needs there from its first boot on, path to text.
    login: what Pulumi reads its credentials from.
    """

    title: str
    module: str
    package: str | None
    region: str | None = None
    zone: str | None = None
    size: str | None = None
    image: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    login: str = ""
    prices: Prices | None = None
    price_list: str = ""


OFFERS: Final[Mapping[str, Offer]] = {
    "aws": Offer(
        title="AWS",
        module="slipway_stacks.clouds.aws",
        package="pulumi_aws",
        region="eu-central-1",
        size="t3.medium",
        image="136693071363/debian-13-amd64-*",
        settings={"aws:region": "region"},
        login="AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        prices=Prices(
            currency="USD",
            region="eu-central-1",
            machines={"t3.medium": 0.048, "t3.large": 0.096, "t3.xlarge": 0.192, "t3.2xlarge": 0.384},
            disk=0.0952,
            address=0.005,
            date="2025",
            source="https://aws.amazon.com/ec2/pricing/on-demand/",
        ),
        price_list="https://aws.amazon.com/ec2/pricing/on-demand/",
    ),
    "google": Offer(
        title="Google Cloud",
        module="slipway_stacks.clouds.google",
        package="pulumi_gcp",
        region="europe-west3",
        zone="europe-west3-b",
        size="e2-medium",
        image="ubuntu-os-cloud/ubuntu-2404-lts-amd64",
        settings={"gcp:region": "region", "gcp:zone": "zone"},
        # else Google's agent makes host keys of its own at the first boot
        files={"/etc/default/instance_configs.cfg": "[InstanceSetup]\nset_host_keys = false\n"},
        login="GOOGLE_PROJECT, and `gcloud auth application-default login`",
        price_list="https://cloud.google.com/compute/vm-instance-pricing",
    ),
    "azure": Offer(
        title="Azure",
        module="slipway_stacks.clouds.azure",
        package="pulumi_azure_native",
        region="westeurope",
        size="Standard_B2s",
        image="Debian:debian-13:13-gen2:latest",
        settings={"azure-native:location": "region"},
        login="ARM_SUBSCRIPTION_ID, and `az login`",
        price_list="https://azure.microsoft.com/pricing/details/virtual-machines/linux/",
    ),
    "hetzner": Offer(
        title="Hetzner Cloud",
        module="slipway_stacks.clouds.hetzner",
        package="pulumi_hcloud",
        region="nbg1",
        size="cx33",
        image="debian-13",
        login="HCLOUD_TOKEN",
        prices=Prices(
            currency="EUR",
            region="nbg1",
            machines={"cx23": 0.006, "cx33": 0.011, "cx43": 0.021},
            disk=0.0,
            address=0.0,
            date="2026",
            source="https://docs.cnap.tech/compute/providers/hetzner",
        ),
        price_list="https://www.hetzner.com/cloud",
    ),
    "openstack": Offer(
        title="OpenStack",
        module="slipway_stacks.clouds.openstack",
        package="pulumi_openstack",
        login="OS_CLOUD, or what the cloud's openrc file sets",
        settings={"openstack:region": "region"},
    ),
    "here": Offer(title="this computer", module="slipway.hosts.here", package=None),
}


@dataclass(frozen=True)
class Cost:
    """About what machines cost an hour. parts: one line each."""

    an_hour: float
    currency: str
    parts: tuple[str, ...]
    date: str
    source: str


def cost(cloud: str, size: str, count: int, disk: int) -> Cost | None:
    """About what `count` machines with disks of `disk` GB cost an hour; None where no price is known here."""
    prices = OFFERS[cloud].prices
    if prices is None or size not in prices.machines:
        return None
    each = {
        f"{count} x {size}": count * prices.machines[size],
        f"{count} disks of {disk} GB": count * disk * prices.disk / HOURS,
        f"{count} public addresses": count * prices.address,
    }
    parts = tuple(f"{what} {prices.currency} {price:.3f}" for what, price in each.items() if price)
    return Cost(sum(each.values()), prices.currency, parts, prices.date, prices.source)
