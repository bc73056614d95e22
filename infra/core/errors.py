"""Errors for people: what failed, where, the last lines of the true cause, what to do."""

from __future__ import annotations

from pathlib import Path


class SlipwayError(Exception):
    """An expected failure. The top prints it without a traceback and exits with its code.

    what: one sentence, the failure itself.
    where: host, pod, file:line or stage it happened on; empty when the sentence says it.
    tail: the last lines of the true cause, as the failing program printed them.
    action: what the reader can do now.
    evidence: files that hold more (a log, collected journals).

    exit_code None: that of the stage it happened in.
    """

    exit_code: int | None = None

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        tail: str = "",
        action: str = "",
        evidence: tuple[Path, ...] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.tail = tail.strip("\n")
        self.action = action
        self.evidence = evidence

    def lines(self) -> list[str]:
        """The message as people read it, most important line first."""
        out = [f"{self.where}: {self.what}" if self.where else self.what]
        out += [f"  | {line}" for line in self.tail.splitlines()[-20:]]
        if self.action:
            out.append(f"  what to do: {self.action}")
        out += [f"  more in: {path}" for path in self.evidence]
        return out


class GateFailed(SlipwayError):
    """The deployment answers, but not as it must. value: the Proof that says so, kept by the pipeline."""

    exit_code = 1

    def __init__(
        self, what: str, *, value: object, where: str = "", tail: str = "", action: str = ""
    ) -> None:
        super().__init__(what, where=where, tail=tail, action=action)
        self.value = value


class UsageError(SlipwayError):
    """Wrong use or settings."""

    exit_code = 2


class EnvironmentFault(SlipwayError):
    """The machine lacks something: a privilege, a program, disk, a free name or subnet."""

    exit_code = 3


class ArtifactError(SlipwayError):
    """Something from outside could not be had, or is not what its pin says."""

    exit_code = 3


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
