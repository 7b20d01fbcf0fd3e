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
    def read(path: Path) -> RunConfig:
        """Read a TOML file; missing fields keep their defaults.

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
        known = {f.name: f for f in fields(RunConfig)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"'{path}' has unknown fields {unknown}; known: {sorted(known)}")
        for name in ("net", "train"):
            if not isinstance(values.get(name, {}), dict):
                raise ConfigError(f"'{path}': {name} must be a table")
        for name, kind in (("dataset", str), ("model", str), ("seed", int), ("batch_size", int)):
            if name in values and type(values[name]) is not kind:
                raise ConfigError(
                    f"'{path}': {name} must be {kind.__name__}, found {values[name]!r}"
                )
        net = ModelConfig.from_dict({**ModelConfig().to_dict(), **values.pop("net", {})})
        train = TrainConfig.from_dict(values.pop("train", {}))
        return RunConfig(**values, net=net, train=train)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }
