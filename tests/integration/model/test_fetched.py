"""Models by address, against stand-ins that speak each store's protocol: fetched, pinned, cached, resumed, signed."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from slipway.cli import app
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, ModelError
from slipway.core.events import Event, Note, ProgressAdvanced
from slipway.core.interrupt import Cancelled
from slipway.core.schema import ModelSettings, Settings
from slipway.core.state import State
from slipway.model import fetched, saved_model
from slipway.model.stage import ExportModel

from tests.standins import small_model, stores
from tests.standins.authority import Authority

WEIGHT = bytes(range(256)) * 41_000  # 10 MB: more than one range
FILES = small_model.files(WEIGHT)
CONFIG_OF_AN_IMAGE = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def tarred(files: dict[str, bytes], *, gz: bool = True) -> bytes:
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=out, mode="w:gz" if gz else "w", compresslevel=1)
        if gz
        else tarfile.open(fileobj=out, mode="w") as packed
    ):
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return out.getvalue()


def below(folder: str, files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    return {f"{folder}/{name}": data for name, data in files.items()}


@dataclass
class Places:
    """Stand-ins of all stores, each with the same model."""

    web: stores.Store
    registry: stores.Store
    google: stores.Store
    hub: stores.Store
    s3: str
    folder: Path
    environment: dict[str, str]
    digests: dict[str, str] = field(default_factory=dict)

    def address(self, kind: str) -> str:
        return {
            "s3": "s3://bucket/models/mnist",
            "s3 archive": "s3://bucket/archives/mnist.tar.gz",
            "gs": "gs://bucket/models/mnist/3",
            "hf": "hf://org/mnist@main",
            "https": f"{self.web.address}/mnist.tar.gz",
            "https zip": f"{self.web.address}/mnist.zip",
            "file": f"file://{self.folder}",
            "oras": f"oci://{self.registry.host}/models/mnist:oras",
            "modelpack": f"oci://{self.registry.host}/models/mnist:modelpack",
            "modelcar": f"oci://{self.registry.host}/models/mnist@{self.digests['modelcar']}",
        }[kind]


VERSIONS = {"s3": 3, "s3 archive": 1, "gs": 3, "hf": 1, "https": 2, "https zip": 1, "file": 12}
VERSIONS |= {"oras": 1, "modelpack": 4, "modelcar": 7}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    import boto3
    from moto.server import ThreadedMotoServer

    folder = tmp_path_factory.mktemp("places")
    authority = Authority("a CA of tests")
    ca, tls = folder / "ca.pem", folder / "server.pem"
    ca.write_bytes(authority.certificate)
    tls.write_bytes(b"".join(authority.sign("a stand-in")))
    small_model.write(folder / "models" / "12", WEIGHT)
    small_model.write(folder / "models" / "9", b"older")
    s3 = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s3.start()
    host, port = s3.get_host_and_port()
    with ExitStack() as stack:
        stack.callback(s3.stop)
        made = Places(
            stack.enter_context(stores.web(stores.Store(), tls)),
            stack.enter_context(stores.registry(stores.Store(), tls)),
            stack.enter_context(stores.google_storage(stores.Store())),
            stack.enter_context(stores.hugging_face(stores.Store())),
            f"http://{host}:{port}",
            folder / "models",
            {},
        )
        made.environment = {
            "SSL_CERT_FILE": str(ca),
            "AWS_ENDPOINT_URL": made.s3,
            "AWS_ACCESS_KEY_ID": "canary-key",
            "AWS_SECRET_ACCESS_KEY": "canary-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "STORAGE_EMULATOR_HOST": made.google.address,
            "NO_GCE_CHECK": "true",  # no look for a metadata server
            "HF_ENDPOINT": made.hub.address,
            "HOME": str(folder),
        }
        client = boto3.client(
            "s3",
            endpoint_url=made.s3,
            aws_access_key_id="canary-key",
            aws_secret_access_key="canary-secret",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="bucket")
        held = {
            "models/": b"",
            **below("models/mnist/3"),
            "models/mnist/2/saved_model.pb": b"older",
            "models/mnist-other/9/saved_model.pb": b"a neighbour",
            "archives/mnist.tar.gz": tarred(below("mnist")),
        }
        for name, data in held.items():
            client.put_object(Bucket="bucket", Key=name, Body=data)
        made.google.files |= below("bucket/models/mnist/3")
        made.hub.files |= below("org/mnist")
        made.web.files |= {
            "mnist.tar.gz": tarred(below("mnist/2")),
            "mnist.zip": zipped(FILES),
            "mnist.tar": tarred(FILES, gz=False),
        }
        _push(made)
        yield made


def _push(made: Places) -> None:
    oras: list[tuple[bytes, dict[str, Any]]] = [
        (FILES["saved_model.pb"], _titled("saved_model.pb")),
        (tarred(below("variables", _part("variables"))), _titled("variables", unpack=True)),
        (FILES["assets.extra/requests.jsonl"], _titled("assets.extra/requests.jsonl")),
    ]
    weight = "application/vnd.cncf.model.weight.v1"
    named = {"org.cncf.model.filepath": "4/variables"}
    modelpack: list[tuple[bytes, dict[str, Any]]] = [
        (
            tarred(below("4/variables", _part("variables")), gz=False),
            {"mediaType": f"{weight}.tar", "annotations": named},
        ),
        *(
            (
                FILES[name],
                {"mediaType": f"{weight}.raw", "annotations": {"org.cncf.model.filepath": f"4/{name}"}},
            )
            for name in ("saved_model.pb", "assets.extra/requests.jsonl")
        ),
    ]
    root = {"etc/passwd": b"root", "bin/sh": b"#!"}
    modelcar: list[tuple[bytes, dict[str, Any]]] = [
        (tarred(root), {"mediaType": LAYER}),
        (tarred(below("models/7", {**FILES, "saved_model.pb": b"of the layer below"})), {"mediaType": LAYER}),
        (tarred(below("models/7", {"saved_model.pb": FILES["saved_model.pb"]})), {"mediaType": LAYER}),
    ]
    kinds = {
        "oras": (oras, "application/vnd.oci.empty.v1+json"),
        "modelpack": (modelpack, "application/vnd.cncf.model.config.v1+json"),
        "modelcar": (modelcar, CONFIG_OF_AN_IMAGE),
    }
    for tag, (layers, config) in kinds.items():
        made.digests[tag] = stores.pushed(made.registry, tag, layers, config)


def _part(folder: str) -> dict[str, bytes]:
    return {name.partition("/")[2]: data for name, data in FILES.items() if name.startswith(f"{folder}/")}


def _titled(name: str, *, unpack: bool = False) -> dict[str, Any]:
    said = {"org.opencontainers.image.title": name}
    return {
        "mediaType": LAYER if unpack else "application/vnd.oci.image.layer.v1.tar",
        "annotations": {**said, "io.deis.oras.content.unpack": "true"} if unpack else said,
    }


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def ctx(
    places: Places, events: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Context]:
    for name, value in places.environment.items():
        monkeypatch.setenv(name, value)
    # read once, when the library is loaded
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", places.hub.address)
    monkeypatch.setattr("slipway.clients.remote_files.interrupt.pause", lambda _seconds: None)
    yield Context(
        State(tmp_path / "state"), tmp_path / "run", tmp_path, cache=tmp_path / "cache", emit=events.append
    )
    for store in (places.web, places.registry, places.google, places.hub):
        store.cut.clear()
        store.asked.clear()
        store.sent.clear()
        store.login, store.ranges = "", True


@pytest.fixture(scope="module")
def sha256(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved_model.sha256(small_model.write(tmp_path_factory.mktemp("right"), WEIGHT))


@pytest.mark.parametrize("kind", VERSIONS)
def test_a_model_is_fetched_whole_and_once(
    places: Places, ctx: Context, kind: str, sha256: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = places.address(kind)
    found = fetched.fetched(ctx, address)
    assert (found.version, found.sha256, found.new) == (VERSIONS[kind], sha256, True)
    assert {
        path.relative_to(found.path).as_posix(): path.read_bytes()
        for path in found.path.rglob("*")
        if path.is_file()
    } == FILES
    again = fetched.fetched(ctx, address)
    assert (again.path, again.new) == (found.path, False)
    assert fetched.planned(ctx, address) == []
    assert not list((ctx.cache / "artifacts" / "downloads").iterdir())
    monkeypatch.setattr(
        "slipway.model.addresses.source", lambda _address: pytest.fail("the network was asked")
    )
    assert fetched.fetched(ctx, address, sha256).path == found.path


def test_another_model_than_the_pinned_one_is_refused(places: Places, ctx: Context, sha256: str) -> None:
    with pytest.raises(ArtifactError) as refused:
        fetched.fetched(ctx, places.address("gs"), "0" * 64)
    assert sha256 in refused.value.what
    assert "0" * 64 in refused.value.what
    assert refused.value.exit_code == 3


def test_a_changed_model_is_fetched_anew(
    places: Places, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = places.address("gs")
    first = fetched.fetched(ctx, address)
    name = "bucket/models/mnist/3/variables/variables.index"
    monkeypatch.setitem(places.google.files, name, b"Index")
    assert fetched.planned(ctx, address) == [f"fetch the model at {address}"]
    second = fetched.fetched(ctx, address)
    assert second.new
    assert second.sha256 != first.sha256
    assert fetched.fetched(ctx, address, first.sha256).path == first.path


def test_a_damaged_copy_is_not_used(places: Places, ctx: Context, sha256: str) -> None:
    found = fetched.fetched(ctx, places.address("gs"), sha256)
    (found.path / "saved_model.pb").write_bytes(b"something else")
    assert fetched.fetched(ctx, places.address("gs"), sha256).new


STORES = {"https zip": "web", "gs": "google", "hf": "hub", "modelpack": "registry"}


@pytest.mark.parametrize("kind", STORES)
def test_a_fetch_that_was_interrupted_goes_on_where_it_was(places: Places, ctx: Context, kind: str) -> None:
    def interrupted(event: Event) -> None:
        if isinstance(event, ProgressAdvanced) and event.done >= 8 << 20:
            raise Cancelled

    store: stores.Store = getattr(places, STORES[kind])
    with pytest.raises(Cancelled):
        fetched.fetched(replace(ctx, emit=interrupted), places.address(kind))
    largest = max(store.sent, key=lambda name: len(store.files[name]))
    store.sent.clear()
    assert fetched.fetched(ctx, places.address(kind)).new
    assert 0 < store.sent[largest] <= len(store.files[largest]) - 8_000_000


@pytest.mark.parametrize("kind", ["https zip", "modelpack"])
def test_a_connection_that_breaks_is_told_and_what_came_is_kept(
    places: Places, ctx: Context, kind: str
) -> None:
    store: stores.Store = getattr(places, STORES[kind])
    store.cut = dict.fromkeys(store.files, 9 << 20)
    with pytest.raises(ArtifactError):
        fetched.fetched(ctx, places.address(kind))
    store.cut.clear()
    store.sent.clear()
    assert fetched.fetched(ctx, places.address(kind)).new
    largest = max(store.sent, key=lambda name: len(store.files[name]))
    assert 0 < store.sent[largest] <= len(store.files[largest]) - 8_000_000


def test_a_web_server_without_ranges_sends_all_of_it(places: Places, ctx: Context, sha256: str) -> None:
    places.web.ranges = False
    assert fetched.fetched(ctx, f"{places.web.address}/mnist.tar").sha256 == sha256


@pytest.mark.parametrize("kind", ["s3", "gs", "hf", "https", "file", "oras"])
def test_nothing_there_is_said_with_the_address(places: Places, ctx: Context, kind: str) -> None:
    address = (
        places.address(kind).replace("mnist", "nothing").replace("models", "nowhere").replace(":oras", ":0")
    )
    with pytest.raises(ArtifactError) as refused:
        fetched.fetched(ctx, address)
    assert refused.value.where == address
    assert "there is nothing here" in refused.value.what


@pytest.mark.parametrize(
    ("kind", "store", "says"),
    [("https", "web", "~/.netrc"), ("hf", "hub", "HF_TOKEN"), ("oras", "registry", "docker login")],
)
def test_a_login_that_is_wanted_is_named_by_the_tool_that_keeps_it(
    places: Places, ctx: Context, kind: str, store: str, says: str
) -> None:
    getattr(places, store).login = "Basic Y2FuYXJ5OnNlY3JldA=="
    with pytest.raises(ArtifactError) as refused:
        fetched.fetched(ctx, places.address(kind))
    assert says in refused.value.action


def test_logins_come_from_where_each_tool_keeps_them(
    places: Places, ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in (places.web, places.registry):
        store.login = "Basic Y2FuYXJ5OnNlY3JldA=="  # canary:secret
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login canary password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {places.registry.host: {"auth": "Y2FuYXJ5OnNlY3JldA=="}}})
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert fetched.fetched(ctx, places.address("https")).new
    assert fetched.fetched(ctx, places.address("oras")).new


def test_what_is_no_archive_is_told_and_fetched_again_next_time(
    places: Places, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(places.web.files, "page", b"<html>log in first</html>")
    with pytest.raises(ModelError, match="no archive"):
        fetched.fetched(ctx, f"{places.web.address}/page")
    assert not list((ctx.cache / "artifacts" / "downloads").iterdir())


def test_a_layer_that_is_not_what_its_digest_says_is_not_kept(places: Places, ctx: Context) -> None:
    layer = (b"what was pushed", {"mediaType": LAYER})
    stores.pushed(places.registry, "changed", [layer], CONFIG_OF_AN_IMAGE)
    places.registry.files[f"sha256:{hashlib.sha256(layer[0]).hexdigest()}"] = b"something else!"
    with pytest.raises(ArtifactError, match="a blob of models/mnist is sha256:"):
        fetched.fetched(ctx, f"oci://{places.registry.host}/models/mnist:changed")
    assert not list((ctx.cache / "artifacts" / "downloads").rglob("sha256-*"))


def test_a_certificate_that_nobody_here_trusts_is_told(
    places: Places, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ArtifactError, match="certificate") as refused:
        fetched.fetched(ctx, places.address("oras"))
    assert "SSL_CERT_FILE" in refused.value.action
    with pytest.raises(ArtifactError, match="certificate"):
        fetched.fetched(ctx, places.address("https"))


def test_a_layer_of_another_kind_is_refused_by_its_name(places: Places, ctx: Context) -> None:
    zstd = "application/vnd.cncf.model.weight.v1.tar+zstd"
    stores.pushed(places.registry, "zstd", [(b"x", {"mediaType": zstd})], "x")
    with pytest.raises(ModelError, match=r"tar\+zstd"):
        fetched.fetched(ctx, f"oci://{places.registry.host}/models/mnist:zstd")


# The stage and the verb


def test_the_stage_fetches_pins_and_says_how(
    places: Places, ctx: Context, events: list[Event], sha256: str
) -> None:
    address = places.address("s3")
    settings = Settings(model=ModelSettings(path=address))
    stage = ExportModel()
    assert stage.should_run(settings) == ""
    assert stage.plan(ctx, settings) == [f"fetch the model at {address}"]
    first = stage.run(ctx, settings)
    assert (first.changed, first.value.version, first.value.sha256) == (1, 3, sha256)
    assert first.summary == f"mnist version 3 from {address}"
    (said,) = [event.text for event in events if isinstance(event, Note)]
    assert said == f"{address} has sha256 {sha256}; model.sha256 with it takes no other from now on"
    again = stage.run(ctx, Settings(model=ModelSettings(path=address, sha256=sha256)))
    assert (again.changed, again.value) == (0, first.value)
    with pytest.raises(ArtifactError, match="is not the model that is pinned"):
        stage.run(ctx, Settings(model=ModelSettings(path=address, sha256="0" * 64)))


def test_a_folder_here_is_held_to_its_sum_too(places: Places, ctx: Context, sha256: str) -> None:
    stage = ExportModel()
    right = ModelSettings(path=places.folder, sha256=sha256)
    assert stage.provided(ctx, Settings(model=right)).value.version == 12
    with pytest.raises(ArtifactError, match="is not the model that is pinned"):
        stage.provided(ctx, Settings(model=right.model_copy(update={"sha256": "0" * 64})))


def test_inspect_takes_an_address(
    places: Places,
    ctx: Context,
    sha256: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(ctx.cache))
    monkeypatch.chdir(tmp_path)

    def inspected(address: str) -> int:
        monkeypatch.setattr("sys.argv", ["slipway", "model", "inspect", address])
        with pytest.raises(SystemExit) as ended:
            app.main()
        return int(ended.value.code or 0)

    assert inspected(places.address("s3")) == 0
    said = capsys.readouterr()
    assert f"sha256 {sha256}" in said.out
    assert "canary" not in said.out + said.err
    assert inspected("s3://joe:canary@bucket/m") == 2
    assert "canary" not in capsys.readouterr().err


# Signatures


@dataclass(frozen=True)
class Signed:
    """A signed model, in the way of its own tool: model.sig lies in it. Keys are public ones."""

    folder: Path
    key: Path
    other_key: Path


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from model_signing import hashing, signing

    folder = tmp_path_factory.mktemp("signed")
    model = small_model.write(folder / "model")
    for name in ("key", "other"):
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{name}.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (folder / f"{name}.pub").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    signature = model / "model.sig"
    signing.Config().use_elliptic_key_signer(private_key=folder / "key.pem").set_hashing_config(
        hashing.Config().set_ignored_paths(paths=[signature])
    ).sign(model, signature)
    return Signed(model, folder / "key.pub", folder / "other.pub")


def brings(path: Path | str, signature: Path | str, key: Path) -> Settings:
    return Settings(model=ModelSettings(path=path, signature=signature, signing_key=key))


@pytest.mark.parametrize("place", ["in the folder", "beside it", "by address", "beside the address"])
def test_a_signature_that_holds_is_said(
    places: Places, ctx: Context, events: list[Event], signed: Signed, tmp_path: Path, place: str
) -> None:
    stage = ExportModel()
    if place == "in the folder":
        stage.provided(ctx, brings(signed.folder, signed.folder / "model.sig", signed.key))
    elif place == "beside it":
        shutil.copytree(signed.folder, tmp_path / "model")
        (tmp_path / "model" / "model.sig").rename(tmp_path / "its.sig")
        stage.provided(ctx, brings(tmp_path / "model", tmp_path / "its.sig", signed.key))
    else:
        files = {
            path.relative_to(signed.folder).as_posix(): path.read_bytes()
            for path in signed.folder.rglob("*")
            if path.is_file()
        }
        if place == "by address":
            places.hub.files |= below("org/signed", files)
            address, signature = "hf://org/signed", "hf://org/signed/model.sig"
        else:
            places.web.files["m.sig"] = files.pop("model.sig")
            places.web.files["m.tar.gz"] = tarred(below("1", files))
            address, signature = f"{places.web.address}/m.tar.gz", f"{places.web.address}/m.sig"
        stage.run(ctx, brings(address, signature, signed.key))
    assert [event.text for event in events if isinstance(event, Note) and "its signature holds" in event.text]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("another key", "Key mismatch"),
        ("a changed file", "Hash mismatch for 'saved_model.pb'"),
        ("a file more", "Extra files found in model 'model': extra"),
        ("no signature", "its signature does not hold"),
    ],
)
def test_a_signature_that_does_not_hold_is_refused_before_the_model_is_read(
    ctx: Context, signed: Signed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, says: str
) -> None:
    model = shutil.copytree(signed.folder, tmp_path / "model")
    if what == "a changed file":
        (model / "saved_model.pb").write_bytes(b"another")
    elif what == "a file more":
        (model / "extra").write_bytes(b"")
    elif what == "no signature":
        (model / "model.sig").write_text("{}")
    monkeypatch.setattr(saved_model, "inspect", lambda _path: pytest.fail("the model was read"))
    key = signed.other_key if what == "another key" else signed.key
    with pytest.raises(ArtifactError) as refused:
        ExportModel().provided(ctx, brings(model, model / "model.sig", key))
    assert says in refused.value.what


def test_several_models_are_pinned_each_by_its_own_sum(
    places: Places, ctx: Context, events: list[Event], sha256: str
) -> None:
    several = Settings.model_validate(
        {
            "models": {
                "digits": {"model": {"path": places.address("gs"), "sha256": sha256}},
                "letters": {"model": {"path": places.address("hf")}},
            }
        }
    )
    take: Callable[[str], object] = lambda name: ExportModel().run(ctx.of(name), several.of(name)).value.name  # noqa: E731
    assert [take(name) for name in several.models] == ["digits", "letters"]
    (said,) = [event.text for event in events if isinstance(event, Note)]
    assert "models.letters.model.sha256 with it" in said
