"""What a study runs: methods, seeds, a data set and a budget; TOML in and out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from biril_nm.arguments import MAX_SEED, Count, checked, unknown_name
from biril_nm.data import DATASETS, get_shift
from biril_nm.errors import BirilError, ConfigError, bullet_list
from biril_nm.models import MODELS, ModelConfig
from biril_nm.storage import atomic_file, read_toml
from biril_nm.training import TrainConfig
from biril_nm.training.run_config import RunConfig

__all__ = ["STUDIES", "Method", "StudyPlan"]

MAX_CELLS = 10_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_+-]{0,62}")
BIRIL = "1:6:2"
# Settings of a run that a study has by itself -> what says them there.
RUN_OF_STUDY = {
    "dataset": "the study has its dataset",
    "model": "the study has its model",
    "seed": "the study has its seeds",
    "validation": "n_validation samples choose the epoch",
    "parent": "every cell starts from new weights",
    "integers": "cells train floats, and bits says on which integers they are measured",
    "loggers": "cells leave their results in the folder of the study alone",
}
TRAIN_OF_STUDY = {
    "schedule": "each method has its schedule",
    "epochs": "the study has its epochs",
    "seed": "the study has its seeds",
    "keep": "a cell keeps the best epoch on its validation samples",
    "tensorboard": "cells write no events",
    "curves": "cells draw no curves",
    "devices": "a cell runs in one process, and --workers runs several cells",
    "nodes": "a cell runs in one process, and --cluster runs cells on several machines",
}
NET_OF_DATA = {"input_shape": "the data set has it", "n_classes": "the data set has them"}


@checked
@dataclass(frozen=True)
class Method:
    """One way of training.

    Attributes:
        name: row of the table, and folder of its cells.
        schedule: ratio S:B:H or cycle of phases.
        role: ``"method"``, or ``"control"`` for what shows how much of a result is due to the method.
        train: further fields of :class:`biril_nm.training.TrainConfig`.
        net: fields of :class:`biril_nm.models.ModelConfig`.
    """

    name: str
    schedule: str
    role: str = "method"
    train: Mapping[str, Any] = field(default_factory=dict)
    net: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"name of a method is {self.name!r:.80}; expected letters, digits and . : _ + - only"
            )
        if self.role not in ("method", "control"):
            raise ConfigError(unknown_name("role", self.role, ("method", "control")))
        findings = [
            *_refused(self.train, TRAIN_OF_STUDY, f"train of method '{self.name}'"),
            *_refused(self.net, NET_OF_DATA, f"net of method '{self.name}'"),
        ]
        if findings:
            raise ConfigError(bullet_list(f"method '{self.name}' is not valid:", findings))
        TrainConfig.from_dict({**self.train, "schedule": self.schedule})
        ModelConfig.from_dict(self.net)

    @property
    def folder(self) -> str:
        """The name as a part of a path that every file system takes."""
        return self.name.lower().replace(":", "-")


@checked
@dataclass(frozen=True)
class StudyPlan:
    """A grid of methods and seeds.

    Every cell trains one network on ``n_train`` training samples, drawn by its seed. The epoch with the best
    accuracy on ``n_validation`` others is kept, and the test set is used once, on it.

    Attributes:
        name: of the study.
        methods: rows of the grid.
        seeds: columns: seed of weights, data order and local rule.
        dataset: name of the data set, with its options; the name alone means the options of its recipe, as
            in ``biril train --dataset``.
        model: name of the architecture.
        epochs: of each cell.
        n_train: training samples.
        n_validation: training samples that choose the epoch.
        n_test: test samples; None: all.
        bits: weight bits of the integer networks that are measured.
        shifts: changed worlds in which the readout learns on the chip; none: skip it.
        per_class: labelled samples of a changed world.
        run: further fields of the run's configuration, as in a config.toml of ``biril train``.
    """

    name: str
    methods: tuple[Method, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    dataset: str = "mnist"
    model: str = "convnet"
    epochs: Count = 6
    n_train: Count = 5000
    n_validation: Count = 1000
    n_test: Count | None = None
    bits: tuple[int, ...] = (8, 4)
    shifts: tuple[str, ...] = ("rotated",)
    per_class: Count = 10
    run: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        findings = list(self._findings())
        if findings:
            raise ConfigError(bullet_list(f"study '{self.name}' is not valid:", findings))

    def _findings(self) -> list[str]:
        found = []
        names = [method.folder for method in self.methods]
        if not names or len(set(names)) < len(names):
            found.append(f"methods are {names}; expected at least one, each name once")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            found.append(f"seeds are {self.seeds}; expected at least one, each once")
        if not all(type(seed) is int and 0 <= seed <= MAX_SEED for seed in self.seeds):
            found.append(f"seeds are {self.seeds}; expected integers from 0 to {MAX_SEED}")
        if len(names) * len(self.seeds) > MAX_CELLS:
            found.append(
                f"{len(names)} methods x {len(self.seeds)} seeds; expected {MAX_CELLS} cells"
            )
        if not all(type(bits) is int and 2 <= bits <= 8 for bits in self.bits):
            found.append(f"bits are {self.bits}; expected integers from 2 to 8")
        bare = self.dataset.partition(":")[0]  # before its options
        if bare not in DATASETS:
            found.append(unknown_name("dataset", bare, DATASETS))
        if self.model not in MODELS:
            found.append(unknown_name("model", self.model, MODELS))
        found += self._wrong_run()
        if self.shifts and not self.bits:
            found.append("bits are (), beside shifts; expected at least one, whose network adapts")
        for shift in self.shifts:
            get_shift(shift)
        return found

    def _wrong_run(self) -> list[str]:
        """What ``run`` holds that is no table, or that a study has by itself."""
        found = _refused(self.run, RUN_OF_STUDY, "run")
        for name, refused in (("train", TRAIN_OF_STUDY), ("net", NET_OF_DATA)):
            table = self.run.get(name, {})
            if isinstance(table, Mapping):
                found += _refused(table, refused, f"run.{name}")
            else:
                found.append(
                    f"run.{name} is {table!r:.80}; expected a table. Write [run.{name}] and its fields"
                )
        return found

    def cells(self) -> list[tuple[Method, int]]:
        """All (method, seed), seeds last, so that every method has a result early."""
        return [(method, seed) for seed in self.seeds for method in self.methods]

    def run_config(self, method: Method, seed: int) -> RunConfig:
        """Configuration of a cell's training; recipe of the data set, then the study, then the method."""
        values = dict(self.run)
        train = {**values.pop("train", {}), **method.train}
        values["train"] = {**train, "schedule": method.schedule, "epochs": self.epochs}
        values["net"] = {**values.get("net", {}), **method.net}
        options: dict[str, Any] = {"dataset": self.dataset, "model": self.model, "seed": seed}
        run = RunConfig.make(values, f"study '{self.name}'", **options)
        return replace(run, train=replace(run.train, keep="best", tensorboard=False, curves=False))

    @property
    def data(self) -> str:
        """Name of the data set, with the options that its recipe gives to the bare name."""
        return self.run_config(self.methods[0], self.seeds[0]).dataset

    def to_dict(self) -> dict[str, Any]:
        """Plain values; :meth:`from_dict` reads them."""
        return {**asdict(self), "methods": [asdict(method) for method in self.methods]}

    @staticmethod
    @checked
    def from_dict(values: Mapping[str, Any]) -> StudyPlan:
        """Inverse of :meth:`to_dict`; missing fields take their defaults.

        Raises:
            ConfigError: unknown field or a value that makes no sense.
        """
        given = dict(values)
        unknown = sorted(set(given) - {f.name for f in fields(StudyPlan)})
        if unknown:
            known = ", ".join(f.name for f in fields(StudyPlan))
            raise ConfigError(f"study fields {unknown} are unknown; expected some of {known}")
        for name in ("methods", "seeds", "bits", "shifts"):
            if not isinstance(given.get(name, ()), (list, tuple)):
                raise ConfigError(
                    f"{name} of the study is {given[name]!r:.80}; expected a list. Write {name} = [...]"
                )
            if name in given:
                given[name] = tuple(given[name])
        try:
            given["methods"] = tuple(_method(values) for values in given.get("methods", ()))
            return StudyPlan(**given)
        except BirilError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the study is damaged: {error}") from error

    @staticmethod
    def read(path: Path) -> StudyPlan:
        """A study from a TOML file.

        Raises:
            FileFormatError: not TOML.
            ConfigError: as :meth:`from_dict`.
        """
        return StudyPlan.from_dict(read_toml(path))

    def write(self, path: Path) -> None:
        """Write atomically, as TOML."""
        plain = {key: value for key, value in self.to_dict().items() if value is not None}
        with atomic_file(path) as part:
            part.write_text(str(tomli_w.dumps(plain)), encoding="utf-8")

    def digest(self, method: Method, seed: int) -> str:
        """Names what a cell's result depends on; a cell of another plan is run again."""
        facts = {**self.to_dict(), "methods": asdict(method), "seeds": seed}
        facts["threads"] = 1  # of torch; floats add up in another order in several
        facts["run"] = self.run_config(method, seed).to_toml()  # with the recipe of the data set
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _method(values: Any) -> Method:
    """A method from its table."""
    known = [f.name for f in fields(Method)]
    if not isinstance(values, Mapping) or not set(values) <= set(known):
        raise ConfigError(
            f"a method is {values!r:.200}; expected a table of {', '.join(known)}. Write "
            f'{{name = "mine", schedule = "1:6:2"}}'
        )
    missing = [name for name in ("name", "schedule") if name not in values]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} of method {dict(values)!r:.200} is missing; expected a text"
        )
    return Method(**values)


def _refused(values: Mapping[str, Any], refused: Mapping[str, str], where: str) -> list[str]:
    """A finding for each setting that would change nothing."""
    return [
        f"{name} in {where} is {values[name]!r:.80}; expected none, since {reason}. Leave it out"
        for name, reason in refused.items()
        if name in values
    ]


def _controls(cycle: str, hybrid: str = "B") -> tuple[Method, ...]:
    """The cycle with S doing nothing, twice, and plain gradient training of the same number of steps."""
    plain = cycle.replace("H", hybrid)
    return (
        Method("STBP", "B", "control"),
        Method("idle", plain.replace("S", "I"), "control"),
        Method("frozen", plain.replace("S", "F"), "control"),
    )


def _ratios(*ratios: str) -> tuple[Method, ...]:
    return tuple(Method(ratio, ratio) for ratio in ratios)


# BrainCog's neurons and training on a network for one CPU; its own rate, 5e-3 batch / 1024, takes 200 epochs.
SMALL_BRAINCOG: dict[str, Any] = {
    "batch_size": 32,
    "net": {
        "threshold": 0.5,
        "surrogate": "qgate",
        "channels": [16, 32, 32],
        "depths": [1, 1, 1],
    },
    "train": {
        "optimizer": "adamw",
        "weight_decay": 1e-4,
        "lr": 3e-3,
        "lr_last": 1e-5,
        "loss": "ce_smooth",
    },
}
# Network, neuron, coding and loss of BRP-SNN, as the recipe brp_mnist_mlp has them, at 300 hidden neurons.
BRP_SNN: dict[str, Any] = {
    "batch_size": 50,
    "crop_pad": 0,
    "net": {
        "neuron": "lif",
        "beta": 0.2,
        "threshold": 0.5,
        "surrogate": "rectangle",
        "init": "torch",
        "batch_norm": False,
        "hidden": [300],
        "coding": {"kind": "rate", "n_steps": 10, "message_bits": 0},
    },
    "train": {"lr": 1e-3, "loss": "mse"},
}
CYCLE = TrainConfig(schedule=BIRIL).cycle
# Name -> plan of a study.
STUDIES: dict[str, StudyPlan] = {
    plan.name: plan
    for plan in (
        StudyPlan(
            "methods",
            (
                Method("BIRIL", BIRIL),
                Method("STDP-STBP", "H"),
                Method("STDP", "S"),
                Method("EICIL-like", "BS", train={"plastic": "last"}),
                *_controls(CYCLE),
            ),
            epochs=len(CYCLE),
        ),
        StudyPlan(
            "ratios",
            (*_ratios("1:8:3", "1:6:2", "1:4:1", "2:6:1", "3:8:1"), *_controls(CYCLE)),
            epochs=36,  # the least common multiple of the cycles: each ratio is what its name says
        ),
        StudyPlan(
            "neurons",
            (
                Method("IF", "B", "control", net={"neuron": "if"}),
                Method("LIF", "B", net={"neuron": "lif_tau", "beta": 0.5}),
                Method("PLIF", "B", net={"neuron": "plif", "beta": 0.5}),
            ),
            dataset="nmnist:steps=10,by=time,side=17",
            model="braincog_convnet",
            epochs=12,
            n_train=850,
            n_validation=150,
            bits=(8,),
            shifts=(),
            run=SMALL_BRAINCOG,
        ),
        StudyPlan(
            "projection",
            (
                Method("BP", "B"),
                Method("FA", "fa"),
                Method("DFA", "dfa"),
                Method("sDFA", "sdfa"),
                Method("BRP", "brp"),
                Method("shallow", "shallow", "control"),
            ),
            model="mlp",
            epochs=5,
            n_train=6000,
            n_test=2000,
            bits=(8,),
            shifts=(),
            run=BRP_SNN,
        ),
        StudyPlan(
            "precision",
            (
                Method("bfloat16", "B", train={"precision": "bfloat16"}),
                Method("float32", "B", "control", train={"precision": "float32"}),
            ),
            epochs=4,
            bits=(8,),
            shifts=(),
        ),
    )
}
"""Studies by name, with controls: the methods and ratios of the paper, neurons, projection, precision."""
