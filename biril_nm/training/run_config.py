"""RunConfig: one file that says everything about a training run; TOML in and out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from biril_nm.coding import Coding
from biril_nm.data import DataSet
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.models import ModelConfig
from biril_nm.models.plans import of_other
from biril_nm.recipes import read_recipe, recipe_names
from biril_nm.storage import atomic_file, read_toml
from biril_nm.training.config import TrainConfig

__all__ = ["CONFIG", "RunConfig"]

CONFIG = "config.toml"  # file of a run's settings, in its folder

VERSION = 1  # of config.toml; files without a version are of version 1

TABLES = ("net", "train")
LISTS = ("augment", "loggers")


@dataclass(frozen=True)
class RunConfig:
    """Data set, architecture and training of one run.

    Attributes:
        dataset: name of the data set, with its options.
        model: name of the architecture.
        seed: seed of weights, data order and local rule.
        batch_size: training samples per batch.
        crop_pad: random crop after padding by this many pixels (0: none).
        augment: random changes of training samples (:mod:`biril_nm.data.augmentation`).
        validation: share of the training samples on which epochs are compared; 0: none.
        parent: model.pt that it starts from; empty: new weights.
        integers: bits of the weights if it is trained on the chip's integers
            (:func:`biril_nm.training.integers.quantized`); empty: floats.
        loggers: what the epochs are passed on to, as ``"wandb"``; TensorBoard is a setting of training.
        net: configuration of the network; input shape and classes follow from the data set.
        train: configuration of the training.
    """

    dataset: str = "digits"
    model: str = "convnet"
    seed: int = 0
    batch_size: int = 64
    crop_pad: int = 0
    augment: tuple[str, ...] = ()
    validation: float = 0.0
    parent: str = ""
    integers: str = ""
    loggers: tuple[str, ...] = ()
    net: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def with_options(self, **options: Any) -> RunConfig:
        """A copy with the options that are not None, ``neuron`` and those of :class:`TrainConfig` too."""
        given = {key: value for key, value in options.items() if value is not None}
        for name in LISTS:
            if name in given:
                given[name] = tuple(given[name])
        own = {f.name for f in fields(self)} - {"net", "train"}
        neuron = given.pop("neuron", self.net.neuron)
        training = {key: value for key, value in given.items() if key not in own}
        if "seed" in given:
            training["seed"] = given["seed"]
        ours = {key: value for key, value in given.items() if key in own}
        net = replace(self.net, neuron=neuron)
        return replace(self, **ours, net=net, train=replace(self.train, **training))

    def with_data(self, data: DataSet) -> RunConfig:
        """A copy with the shape and classes of the data; frames of events have their coding by themselves."""
        net = replace(self.net, input_shape=data.input_shape, n_classes=data.n_classes)
        n_steps = data.train.n_steps
        if n_steps is not None:
            kind = "spikes" if data.train.top == 1 else "counts"
            net = replace(net, coding=Coding(kind, n_steps, data.train.top.bit_length()))
        return replace(self, net=net)

    def differences(self, other: RunConfig) -> list[str]:
        """Fields in which two configurations differ, device and reports apart."""
        apart = ("train", "net", "loggers")
        compared = [f.name for f in fields(self) if f.name not in apart]
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values; fields that are None are left out."""
        values = {"version": VERSION, **{f.name: getattr(self, f.name) for f in fields(self)}}
        values["net"], values["train"] = self.net.to_dict(), self.train.to_dict()
        return _without_none(values)

    def to_toml(self) -> str:
        """TOML text that :meth:`read` takes."""
        return str(tomli_w.dumps(self.to_dict()))

    def write(self, path: Path) -> None:
        """Write atomically."""
        with atomic_file(path) as part:
            part.write_text(self.to_toml(), encoding="utf-8")

    @staticmethod
    def make(
        values: Mapping[str, Any] | None = None,
        where: str = "",
        recipe: str | None = None,
        **options: Any,
    ) -> RunConfig:
        """The configuration that a file's ``values`` and options mean, whichever of them is there.

        An option comes before the file, the file before the recipe, the recipe before the defaults. The
        name of the recipe's data set alone, without options, means that set with the recipe's options. The
        sizes in a recipe are those of its model: another one has its own. Without a number of epochs
        it is one cycle of the schedule.

        Args:
            values: tables of a file as :meth:`to_toml` writes them, or some of them.
            where: the file, for messages.
            recipe: name or file of a recipe; None: the one that has the name of the data set, if any.
            options: as :meth:`with_options` takes them.

        Raises:
            ConfigError: unknown fields or values that make no sense.
        """
        given = dict(values or {})
        _check_fields(given, where)
        if recipe is None:
            dataset = str(options.get("dataset") or given.get("dataset", RunConfig.dataset))
            bare = dataset.partition(":")[0]
            recipe = bare if bare in recipe_names() else None
        base = {} if recipe is None else read_recipe(recipe)
        if base.pop("version", VERSION) != VERSION:
            raise FileFormatError(f"recipe '{recipe}' is of another version; expected {VERSION}")
        _check_fields(base, f"recipe '{recipe}'")
        if options.get("dataset") == str(base.get("dataset", "")).partition(":")[0]:
            options["dataset"] = None  # the same set, with the options of the recipe
        base = _without_others(
            base, {**given, **{k: v for k, v in options.items() if v is not None}}
        )
        run = RunConfig()._with_tables(base)._with_tables(given).with_options(**options)
        if "epochs" in {**base.get("train", {}), **given.get("train", {})}:
            return run
        if options.get("epochs") is not None:
            return run
        return run.with_options(epochs=len(run.train.phases))

    def _with_tables(self, values: Mapping[str, Any]) -> RunConfig:
        """A copy with what a file says."""
        net, train = (values.get(name, {}) for name in TABLES)
        own = {key: value for key, value in values.items() if key not in TABLES}
        run = self.with_options(**own)
        before = run.train.to_dict()
        if isinstance(train.get("plasticity"), dict):
            train = {**train, "plasticity": {**before["plasticity"], **train["plasticity"]}}
        if isinstance(net.get("coding"), dict):
            net = {**net, "coding": _whole_coding(net["coding"], run.net.coding)}
        return replace(
            run,
            net=ModelConfig.from_dict({**run.net.to_dict(), **net}),
            train=TrainConfig.from_dict({**before, **train}),
        )

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


def _without_others(recipe: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without what it says of its own model and neurons, where others are given."""
    net = recipe.get("net", {})
    usual = recipe.get("model", RunConfig.model)
    neuron = given.get("neuron", given.get("net", {}).get("neuron", net.get("neuron")))
    other_model = given.get("model", usual) != usual
    return {**recipe, "net": of_other(net, other_model, str(neuron))}


def _check_fields(values: Mapping[str, Any], where: str) -> None:
    known = {f.name for f in fields(RunConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"{where} has unknown fields {unknown}; expected some of {sorted(known)}")
    for name in TABLES:
        if not isinstance(values.get(name, {}), dict):
            raise ConfigError(f"{where}: {name} is {values[name]!r:.80}; expected a table")
    kinds = {"dataset": str, "model": str, "seed": int, "batch_size": int, "crop_pad": int}
    kinds |= {"parent": str, "integers": str}
    for name, kind in kinds.items():
        if name in values and type(values[name]) is not kind:
            raise ConfigError(f"{where}: {name} is {values[name]!r:.80}; expected {kind.__name__}")
    for name in LISTS:
        texts = values.get(name, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"{where}: {name} is {texts!r:.80}; expected a list of texts")
    validation = values.get("validation", 0)
    if type(validation) not in (int, float) or not 0 <= validation < 1:
        raise ConfigError(
            f"{where}: validation is {validation!r:.80}; expected a share from 0, below 1"
        )


def _whole_coding(given: Mapping[str, Any], before: Coding) -> dict[str, Any]:
    """A coding of which a file says a part; the rest is as before, or by default where that has no bits."""
    known = before.to_dict()
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(
            f"net.coding has unknown fields {unknown}; expected some of {sorted(known)}"
        )
    known["message_bits"] = before.message_bits or Coding.message_bits
    return {**known, **given}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def __getattr__(name: str) -> Any:
    """Settings by data set, which are recipes now."""
    if name != "RECIPES":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    warnings.warn("'RECIPES' is now 'biril_nm.recipes'", DeprecationWarning, stacklevel=2)
    found = {recipe: read_recipe(recipe) for recipe in ("digits", "mnist")}
    return {
        recipe: {
            k: v
            for k, v in {**values, **values.get("train", {})}.items()
            if k not in ("train", "dataset")
        }
        for recipe, values in found.items()
    }
