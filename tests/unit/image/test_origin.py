"""An image's origin: three signed statements beside it, and every way in which they can prove nothing."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slipway.clients.oci_layout import Layout
from slipway.clients.registry import digest_of
from slipway.core.context import Context
from slipway.core.errors import ImageError
from slipway.core.schema import ImageSettings, Settings
from slipway.core.state import State
from slipway.image import bill, origin, provenance, signing

from tests.standins.image_store import INPUTS, MemoryStore, material

KINDS = {"signature": origin.SIGNATURE, "bill of materials": bill.KIND, "provenance": provenance.KIND}


@dataclass
class Scene:
    """An image that is signed, in a registry and in the state folder."""

    ctx: Context
    store: MemoryStore
    digest: str
    key: signing.PrivateKey

    @property
    def layout(self) -> Layout:
        return Layout(self.ctx.state.image / "layout")

    def verify(self, key: signing.PublicKey | None = None) -> origin.Origin:
        return origin.verify(self.store, "here", self.digest, key or self.key.public)

    def change(self, kind: str, edit: Callable[[dict[str, Any]], object]) -> None:
        """Replace the bundle of a kind by an edited one, as somebody who may push could."""
        for descriptor in self.store.listed[self.digest]:
            manifest = json.loads(self.store.blobs[descriptor["digest"]])
            if manifest["annotations"]["dev.sigstore.bundle.predicateType"] == kind:
                bundle = json.loads(self.store.blobs[manifest["layers"][0]["digest"]])
                edit(bundle)
                changed = json.dumps(bundle).encode()
                self.store.put_blob(changed)
                manifest["layers"][0]["digest"] = digest_of(changed)
                data = json.dumps(manifest).encode()
                self.store.put_blob(data)
                descriptor["digest"] = digest_of(data)
                return
        raise AssertionError(f"no {kind}")

    def drop(self, kind: str) -> None:
        self.store.listed[self.digest] = [
            one
            for one in self.store.listed[self.digest]
            if one["annotations"]["dev.sigstore.bundle.predicateType"] != kind
        ]

    def sign(self, key: signing.PrivateKey, wheels: Path, digest: str = "") -> None:
        origin.sign(self.ctx, self.store, key, material(digest or self.digest, wheels), INPUTS)


def another_key(folder: Path) -> signing.PrivateKey:
    return signing.private_key(State(folder / "another"), Settings())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path, tmp_path / "cache")
    store = MemoryStore()
    digest = store.image(INPUTS.labels)
    made = Scene(ctx, store, digest, signing.private_key(ctx.state, Settings()))
    made.sign(made.key, tmp_path / "wheels")
    return made


def test_what_was_signed_is_proved_by_its_key(scene: Scene) -> None:
    proved = scene.verify()
    assert (proved.digest, proved.revision, proved.base) == (scene.digest, "c" * 40, INPUTS.base[1])
    assert proved.packages == 7  # three of Debian, two wheels without keras, two of slipway
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", proved.built)
    assert proved.key == scene.key.public.fingerprint


def test_the_layout_in_the_state_folder_proves_the_same_without_a_registry(scene: Scene) -> None:
    assert scene.layout.images() == {scene.digest: "1-ab"}
    assert origin.verify(scene.layout, "here", scene.digest, scene.key.public) == scene.verify()


def test_what_is_signed_names_no_machine_and_no_registry(scene: Scene, tmp_path: Path) -> None:
    scene.ctx.state.root.joinpath("canary").write_text(str(tmp_path))
    for data in scene.store.blobs.values():
        text = data.decode()
        if "dsseEnvelope" in text:
            text += base64.b64decode(json.loads(text)["dsseEnvelope"]["payload"]).decode()
        assert str(tmp_path) not in text and "10.0.0.1" not in text


def test_the_private_key_is_in_nothing_that_leaves_the_machine(scene: Scene) -> None:
    path = scene.ctx.state.signing / "key.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    secret = "".join(path.read_text().splitlines()[1:-1])
    left = [
        *scene.store.blobs.values(),
        *(one.read_bytes() for one in scene.layout.folder.rglob("*") if one.is_file()),
    ]
    assert left
    for data in left:
        assert secret.encode() not in data and b"PRIVATE KEY" not in data
    assert secret not in repr(scene.key)


def _edit_payload(bundle: dict[str, Any]) -> None:
    envelope = bundle["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["added"] = "later"
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


def _edit_signature(bundle: dict[str, Any]) -> None:
    signature = bundle["dsseEnvelope"]["signatures"][0]
    data = bytearray(base64.b64decode(signature["sig"]))
    data[-1] ^= 1
    signature["sig"] = base64.b64encode(data).decode()


def _edit_hint(bundle: dict[str, Any]) -> None:
    """The lie that it is of the right key does not help a changed statement."""
    _edit_payload(bundle)
    bundle["verificationMaterial"] = {}


ALTERED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "payload": (_edit_payload, "was changed after it was signed"),
    "signature": (_edit_signature, "was changed after it was signed"),
    "hint": (_edit_hint, "was changed after it was signed"),
    "no signature": (lambda bundle: bundle["dsseEnvelope"].update(signatures=[]), "was changed"),
    "payload type": (lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"), "was changed"),
    "no envelope": (lambda bundle: bundle.pop("dsseEnvelope"), "cannot be read as a Sigstore bundle"),
    "signature of another form": (
        lambda bundle: bundle["dsseEnvelope"].update(signatures=[{"sig": 7}]),
        "cannot be read as a Sigstore bundle",
    ),
    "another kind of file": (lambda bundle: bundle.update(mediaType="text/html"), "is no Sigstore bundle"),
    "no type": (lambda bundle: bundle.update(mediaType=None), "cannot be read as a Sigstore bundle"),
}


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("altered", ALTERED)
def test_each_statement_that_was_altered_is_refused(scene: Scene, what: str, altered: str) -> None:
    edit, said = ALTERED[altered]
    scene.change(KINDS[what], edit)
    with pytest.raises(origin.Unproved) as error:
        scene.verify()
    (line,) = error.value.tail.splitlines()
    assert line.startswith(f"{what}: it ") and said in line
    assert error.value.action


@pytest.mark.parametrize("what", KINDS)
def test_each_statement_that_is_missing_is_named(scene: Scene, what: str) -> None:
    scene.drop(KINDS[what])
    with pytest.raises(origin.Unproved) as error:
        scene.verify()
    assert error.value.tail == f"{what}: the image has none"


@pytest.mark.parametrize("what", KINDS)
def test_a_statement_about_another_image_proves_nothing_of_this_one(
    scene: Scene, tmp_path: Path, what: str
) -> None:
    other = scene.store.image({**INPUTS.labels, "x": "y"})
    scene.sign(scene.key, tmp_path / "wheels", other)
    theirs = {
        one["annotations"]["dev.sigstore.bundle.predicateType"]: one for one in scene.store.listed[other]
    }
    scene.drop(KINDS[what])
    scene.store.listed[scene.digest].append(theirs[KINDS[what]])
    with pytest.raises(origin.Unproved) as error:
        scene.verify()
    assert error.value.tail == f"{what}: it is about another image ({other})"


def test_one_statement_is_not_taken_for_another(scene: Scene) -> None:
    """The manifest tells which kind a bundle is of, and nobody signed the manifest."""
    taken: list[dict[str, Any]] = []
    scene.change(provenance.KIND, lambda bundle: taken.append(json.loads(json.dumps(bundle))))
    scene.change(bill.KIND, lambda bundle: bundle.update(taken[0]))
    with pytest.raises(origin.Unproved, match="is not proved") as error:
        scene.verify()
    assert error.value.tail == f"bill of materials: it states something else ({provenance.KIND})"


def test_another_key_is_refused_for_all_three_by_its_name(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(origin.Unproved) as error:
        scene.verify(another_key(tmp_path).public)
    assert error.value.tail.splitlines() == [
        f"{what}: it is signed by another key ({scene.key.public.hint})" for what in KINDS
    ]


def test_after_a_rotation_both_keys_prove_it_until_the_old_statements_are_deleted(
    scene: Scene, tmp_path: Path
) -> None:
    fresh = another_key(tmp_path)
    scene.sign(fresh, tmp_path / "wheels")
    assert scene.verify(fresh.public).key == fresh.public.fingerprint
    assert scene.verify().key == scene.key.public.fingerprint


def test_labels_that_tell_another_origin_than_the_provenance_are_refused(
    scene: Scene, tmp_path: Path
) -> None:
    for label in (provenance.LOCK, provenance.BASE_DIGEST, provenance.REVISION):
        scene.digest = scene.store.image({**INPUTS.labels, label: "0" * 40})
        scene.sign(scene.key, tmp_path / "wheels")
        with pytest.raises(origin.Unproved) as error:
            scene.verify()
        assert error.value.tail.startswith(f"provenance: it says {label} is ")
    scene.digest = scene.store.image({})
    scene.sign(scene.key, tmp_path / "wheels")
    with pytest.raises(origin.Unproved, match="is not proved") as error:
        scene.verify()
    assert error.value.tail == "provenance: it lacks the lock or the base that the image's labels name"


def test_an_image_that_is_not_there_is_said(scene: Scene) -> None:
    with pytest.raises(ImageError, match=f"there is no image sha256:{'0' * 64}"):
        origin.verify(scene.store, "here", "sha256:" + "0" * 64, scene.key.public)


def test_a_list_of_images_is_not_an_image(scene: Scene) -> None:
    scene.store.put_blob(b'{"manifests": []}')
    with pytest.raises(ImageError, match="is no image but a list of images"):
        origin.verify(scene.store, "here", digest_of(b'{"manifests": []}'), scene.key.public)


def test_what_refers_to_an_image_and_is_no_bundle_is_passed_over(scene: Scene) -> None:
    foreign = json.dumps(
        {"artifactType": "application/spdx+json", "layers": [{"mediaType": "text/spdx"}]}
    ).encode()
    scene.store.attach(foreign, {"digest": digest_of(foreign)}, scene.digest)
    scene.store.listed[scene.digest].append({"digest": "sha256:" + "9" * 64})  # deleted since
    assert scene.verify().digest == scene.digest


def test_the_key_of_the_settings_signs_and_is_not_copied(scene: Scene, tmp_path: Path) -> None:
    theirs = tmp_path / "their.pem"
    theirs.write_bytes(another_key(tmp_path).signer.private_bytes)
    theirs.chmod(0o600)
    settings = Settings(image=ImageSettings(signing_key=theirs))
    state = State(tmp_path / "elsewhere")
    key = signing.private_key(state, settings)
    assert not (state.signing / "key.pem").exists()
    assert signing.public_key(state.signing / "cosign.pub").hint == key.public.hint
    found = signing.kept_key(state, settings)
    assert found is not None and found.hint == key.public.hint
