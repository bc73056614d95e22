"""Whether the pods that answer run the image that was deployed."""

from __future__ import annotations

from infra.clients.kubectl import Kubectl
from infra.core.types import Endpoints, ImageRef


def other_images(kubectl: Kubectl, endpoints: Endpoints, image: ImageRef) -> dict[str, str]:
    """Replica's pod -> the images of its containers, where none is the deployed one by digest."""
    names = {replica.pod for replica in endpoints.replicas}
    out = {}
    for pod in kubectl.get("pods", namespace=endpoints.namespace)["items"]:
        name = pod["metadata"]["name"]
        images = [str(one.get("image", "")) for one in pod["spec"]["containers"]]
        if name in names and not any(one.endswith(f"@{image.digest}") for one in images):
            out[name] = ", ".join(images)
    return out
