"""Where an image comes from, in the form of SLSA's provenance (v1): code, locks, base, model, builder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slipway.core import project
from slipway.core.types import ImageRef

KIND = "https://slsa.dev/provenance/v1"
# Names, not addresses: nothing is served there, and no machine has a part in them
BUILD_TYPE = "urn:slipway:image:v1"
BUILDER = "urn:slipway:image-stage"
REVISION = "org.opencontainers.image.revision"
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
LOCK = "slipway.lock.sha256"
_DIRTY = "-dirty"


@dataclass(frozen=True)
class Inputs:
    """What decides an image beside the model. revision: of slipway's checkout, None if unknown.

    lock, artifacts: SHA-256 of the wheels' lock and of artifacts.lock. base: reference and "sha256:...".
    """

    revision: str | None
    lock: str
    artifacts: str
    base: tuple[str, str]

    @property
    def labels(self) -> dict[str, str]:
        """The same as labels of the image, for whoever looks at it without its provenance."""
        found = {LOCK: self.lock, BASE_NAME: self.base[0], BASE_DIGEST: self.base[1]}
        return found | ({REVISION: self.revision} if self.revision is not None else {})


def provenance(image: ImageRef, inputs: Inputs, *, finished: datetime) -> dict[str, Any]:
    """The predicate: buildDefinition and runDetails of SLSA."""
    dependencies = [
        {"name": "image/requirements.lock", "digest": {"sha256": inputs.lock}},
        {"name": "artifacts/artifacts.lock", "digest": {"sha256": inputs.artifacts}},
        {"name": inputs.base[0], "digest": {"sha256": inputs.base[1].removeprefix("sha256:")}},
        *(
            {"name": f"models/{model.name}/{model.version}", "digest": {"sha256": model.sha256}}
            for model in image.servables
        ),
    ]
    if inputs.revision is not None:
        source: dict[str, Any] = {
            "name": "slipway",
            "digest": {"gitCommit": inputs.revision.removesuffix(_DIRTY)},
        }
        if inputs.revision.endswith(_DIRTY):
            source["annotations"] = {"modified": True}
        dependencies.insert(0, source)
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "server": image.server,
                "model": {"name": image.model_name, "version": image.model_version},
                **(
                    {"beside": [{"name": one.name, "version": one.version} for one in image.beside]}
                    if image.beside
                    else {}
                ),
            },
            "internalParameters": {"tag": image.tag},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"slipway": project.version()}},
            "metadata": {"finishedOn": finished.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
        },
    }


def contradiction(predicate: dict[str, Any], labels: dict[str, str]) -> str:
    """Where a provenance and the labels of the image it is of tell two things; empty where they agree."""
    try:
        listed = predicate["buildDefinition"]["resolvedDependencies"]
        digests = {one["name"]: one["digest"] for one in listed}
        told = {
            LOCK: digests["image/requirements.lock"]["sha256"],
            BASE_DIGEST: f"sha256:{digests[labels.get(BASE_NAME, '')]['sha256']}",
            REVISION: digests.get("slipway", {}).get("gitCommit"),
        }
    except (KeyError, TypeError, AttributeError):
        return "it lacks the lock or the base that the image's labels name"
    for label, value in told.items():
        if value != (labels[label].removesuffix(_DIRTY) if label in labels else None):
            return f"it says {label} is {value}, the image's label {labels.get(label)}"
    return ""
