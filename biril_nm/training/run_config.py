"""RunConfig: one file that says everything about a training run; TOML in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.models import ModelConfig
from biril_nm.storage import atomic_file, read_toml
from biril_nm.training.config import TrainConfig

__all__ = ["CONFIG", "RECIPES", "RunConfig"]

CONFIG = "config.toml"  # of a run, in its folder

VERSION = 1  # of config.toml; files without a version are of version 1

# Settings that suit a data set, found on a part of it; a file or an option overrides them.
RECIPES: dict[str, dict[str, Any]] = {
    "digits": {"batch_size": 32, "lr": 4e-3},
    "mnist": {"batch_size": 64, "lr": 2e-3, "crop_pad": 2},
}


@dataclass(frozen=True)
class RunConfig:
    """Data set, architecture and training of one run.

    Attributes:
        dataset: name of the data set.
        model: name of the architecture.
        seed: seed of weights, data order and local rule.
        batch_size: training samples per batch.
        crop_pad: random crop after padding by this many pixels (0: none).
        net: configuration of the network; input shape and classes follow from the data set.
        train: configuration of the training.
    """

    dataset: str = "digits"
    model: str = "convnet"
    seed: int = 0
    batch_size: int = 64
    crop_pad: int = 0
    net: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def with_options(self, **options: Any) -> RunConfig:
        """A copy with the options that are not None; those of :class:`TrainConfig` go there."""
        given = {key: value for key, value in options.items() if value is not None}
        own = {f.name for f in fields(self)} - {"net", "train"}
        training = {key: value for key, value in given.items() if key not in own}
        if "seed" in given:
            training["seed"] = given["seed"]
        ours = {key: value for key, value in given.items() if key in own}
        return replace(self, **ours, train=replace(self.train, **training))

    def differences(self, other: RunConfig) -> list[str]:
        """Fields in which two configurations differ, device and reports apart."""
        compared = [f.name for f in fields(self) if f.name not in ("train", "net")]
        found = [
            f"{name}: {getattr(other, name)!r} before, {getattr(self, name)!r} now"
            for name in compared
            if getattr(self, name) != getattr(other, name)
        ]
        old, new = other.net.to_dict(), self.net.to_dict()
        found += [
            f"{name}: {old[name]!r} before, {new[name]!r} now"
            for name in new
            if old[name] != new[name]
        ]
        return found + self.train.differences(other.train)

    def to_toml(self) -> str:
        """TOML text that :meth:`read` takes."""
        values = {"version": VERSION, **{f.name: getattr(self, f.name) for f in fields(self)}}
        values["net"], values["train"] = self.net.to_dict(), self.train.to_dict()
        return str(tomli_w.dumps(_without_none(values)))

    def write(self, path: Path) -> None:
        """Write atomically."""
        with atomic_file(path) as part:
            part.write_text(self.to_toml(), encoding="utf-8")

    @staticmethod
    def make(values: Mapping[str, Any] | None = None, where: str = "", **options: Any) -> RunConfig:
        """The configuration that a file's ``values`` and options mean, whichever of them is there.

        An option comes before the file, the file before the recipe of the data set (:data:`RECIPES`), the
        recipe before the defaults. Without a number of epochs it is one cycle of the schedule.

        Args:
            values: tables of a file as :meth:`to_toml` writes them, or some of them.
            where: the file, for messages.
            options: as :meth:`with_options` takes them.

        Raises:
            ConfigError: unknown fields or values that make no sense.
        """
        given = dict(values or {})
        _check_fields(given, where)
        net, train = given.pop("net", {}), given.pop("train", {})
        dataset = options.get("dataset") or given.get("dataset", RunConfig.dataset)
        run = RunConfig().with_options(**RECIPES.get(dataset, {})).with_options(**given)
        run = replace(
            run,
            net=ModelConfig.from_dict({**run.net.to_dict(), **net}),
            train=TrainConfig.from_dict({**_shallow(run.train), **train}),
        ).with_options(**options)
        if "epochs" in train or options.get("epochs") is not None:
            return run
        return run.with_options(epochs=len(run.train.cycle))

    @staticmethod
    def read(path: Path, **options: Any) -> RunConfig:
        """:meth:`make` of a TOML file.

        Raises:
            FileFormatError: not TOML, or of a later version.
            ConfigError: unknown fields or values that make no sense.
        """
        values = read_toml(path)
        version = values.pop("version", VERSION)
        if version != VERSION:
            raise FileFormatError(
                f"configuration '{path}' has version {version!r}; expected {VERSION}. Read it with the "
                f"version of biril-nm that wrote it, or write a new one"
            )
        return RunConfig.make(values, f"'{path}'", **options)


def _check_fields(values: Mapping[str, Any], where: str) -> None:
    known = {f.name for f in fields(RunConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"{where} has unknown fields {unknown}; known: {sorted(known)}")
    for name in ("net", "train"):
        if not isinstance(values.get(name, {}), dict):
            raise ConfigError(f"{where}: {name} must be a table")
    kinds = {"dataset": str, "model": str, "seed": int, "batch_size": int, "crop_pad": int}
    for name, kind in kinds.items():
        if name in values and type(values[name]) is not kind:
            raise ConfigError(f"{where}: {name} must be {kind.__name__}, found {values[name]!r}")


def _shallow(config: TrainConfig) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in fields(config) if f.name != "plasticity"}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }
