"""Errors for people: what failed, where, the last lines of the true cause, what to do."""

from __future__ import annotations

from slipway_client.errors import EnvironmentFault, SlipwayError, UsageError

__all__ = [
    "ArtifactError",
    "CommandError",
    "DeployError",
    "EnvironmentFault",
    "GateFailed",
    "HostError",
    "ImageError",
    "LockHeld",
    "ModelError",
    "NotCached",
    "ProvisionError",
    "SlipwayError",
    "Timeout",
    "UsageError",
]


class GateFailed(SlipwayError):
    """The deployment answers, but not as it must. value: the Proof that says so, kept by the pipeline."""

    exit_code = 1

    def __init__(
        self, what: str, *, value: object, where: str = "", tail: str = "", action: str = ""
    ) -> None:
        super().__init__(what, where=where, tail=tail, action=action)
        self.value = value


class ArtifactError(SlipwayError):
    """Something from outside could not be had, or is not what its pin says."""

    exit_code = 3


class NotCached(ArtifactError):
    """What would have to be fetched or built, where nothing is to be."""


class HostError(SlipwayError):
    """A host could not be made, reached or removed."""

    exit_code = 3


class LockHeld(SlipwayError):
    """Another run owns this state folder."""

    exit_code = 3


class ProvisionError(SlipwayError):
    """A playbook task failed."""

    exit_code = 4


class ModelError(SlipwayError):
    """Training, export or an existing SavedModel failed."""

    exit_code = 5


class ImageError(SlipwayError):
    """The image could not be built, checked or pushed."""

    exit_code = 5


class DeployError(SlipwayError):
    """The deployment could not be applied or never became ready."""

    exit_code = 6


class CommandError(SlipwayError):
    """An outside program failed: its argv, exit code and captured output in one value."""

    def __init__(
        self, argv: tuple[str, ...], returncode: int, output: str, *, where: str = "", action: str = ""
    ) -> None:
        self.argv = argv
        self.returncode = returncode
        self.output = output
        how = f"exit code {returncode}" if returncode >= 0 else f"signal {-returncode}"
        super().__init__(f"`{' '.join(argv)[:300]}` failed: {how}", where=where, tail=output, action=action)


class Timeout(SlipwayError):
    """A wait ended at its deadline; the last thing seen is the tail."""


# What an error means that carries no exit code of its own, by the stage it ended.
STAGE_EXIT_CODES = {"hosts": 3, "provision": 4, "model": 5, "serve": 6, "image": 5, "deploy": 6, "smoke": 1}
INTERRUPTED = 130
