"""Whether the pods that answer run the image that was deployed."""

from __future__ import annotations

from slipway.clients.kubectl import Kubectl
from slipway.core.types import Endpoints, ImageRef


def other_images(kubectl: Kubectl, endpoints: Endpoints, image: ImageRef) -> dict[str, str]:
    """Pod -> its images, for each replica that does not run the deployed image."""
    names = {replica.pod for replica in endpoints.replicas}
    out = {}
    for page in kubectl.pages(f"/api/v1/namespaces/{endpoints.namespace}/pods"):
        for pod in page["items"]:
            name = pod["metadata"]["name"]
            images = [str(one.get("image", "")) for one in pod["spec"]["containers"]]
            if name in names and not any(one.endswith(f"@{image.digest}") for one in images):
                out[name] = ", ".join(images)
    return out
