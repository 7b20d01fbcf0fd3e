"""``biril train --from``: a run that starts from a finished network, as floats or on the chip's integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biril_nm.commands.sources import model_in
from biril_nm.commands.unused import refuse_unused
from biril_nm.errors import ConfigError
from biril_nm.storage.text import is_unicode

if TYPE_CHECKING:
    from biril_nm.models import BirilNet, ModelConfig
    from biril_nm.training.run_config import RunConfig

__all__ = ["check_data", "integer_defaults", "network_of", "parent_of", "with_parent"]

EPOCHS = 3


def integer_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a run on integers, where they are not given: gradients only, few epochs, small steps.

    The precision is that of integers, whatever a recipe has for floats.
    """
    from biril_nm.training.integers.from_float import learning_rate

    if options["integers"] is None:
        return options
    usual = {"schedule": "B", "epochs": EPOCHS, "lr": learning_rate(options["integers"])}
    usual["precision"] = "float32"
    return {**options, **{key: value for key, value in usual.items() if options[key] is None}}


def parent_of(run: RunConfig, resumed: Path | None) -> BirilNet | None:
    """The network that a run starts from; one that is resumed has a copy in its folder.

    Raises:
        ConfigError: integers without a network, or a name of it that no text file holds.
        FileFormatError: no such file, or not a model.pt.
    """
    from biril_nm.models import load
    from biril_nm.training.run_folder import PARENT

    if not is_unicode(run.parent):
        raise ConfigError(
            f"--from is '{run.parent}', a name that is not Unicode; expected one that config.toml can note. "
            f"Rename it"
        )
    if run.parent:
        copy = resumed / PARENT if resumed is not None else None
        return load(copy if copy is not None and copy.is_file() else model_in(Path(run.parent)))
    if run.integers:
        raise ConfigError(
            f"--integers {run.integers}: no network is given; expected a trained one, which is rounded and "
            f"trains on. Add --from model.pt"
        )
    return None


def with_parent(
    run: RunConfig,
    parent: BirilNet | None,
    given: dict[str, Any],
    steps: int | None = None,
    stated: bool = False,
) -> RunConfig:
    """The configuration with the network of the parent.

    Args:
        run: the configuration.
        parent: what it starts from.
        given: options that would say something else of the network.
        steps: time steps of a sample, where they are other than the parent's.
        stated: the configuration comes from a file that describes the network too.

    Raises:
        ConfigError: there is such an option, or the file describes another network.
    """
    if parent is None:
        return run
    refuse_unused(
        [f"{flag}: '{run.parent}' says it" for flag, value in given.items() if value is not None]
    )
    if stated:
        old = parent.config.to_dict()
        new = _of_steps(run.net, parent.config.coding.n_steps).to_dict()
        other = [f"{key} is {new[key]!r}" for key in old if old[key] != new[key]]
        if other:
            raise ConfigError(
                f"[net] of the settings: {', '.join(other)}; expected what '{run.parent}' has, but for the "
                f"steps. Leave [net] out, or train a new network without a parent"
            )
        steps = steps or run.net.coding.n_steps
    return replace(run, model=parent.name, net=_of_steps(parent.config, steps))


def _of_steps(config: ModelConfig, steps: int | None) -> ModelConfig:
    coding = config.coding
    return replace(config, coding=replace(coding, n_steps=steps or coding.n_steps))


def check_data(run: RunConfig, parent: BirilNet | None) -> None:
    """Refuse a data set that does not fit the parent.

    Raises:
        ConfigError: it does not.
    """
    if parent is not None and run.net != _of_steps(parent.config, run.net.coding.n_steps):
        theirs, ours = parent.config, run.net
        raise ConfigError(
            f"'{run.parent}' takes samples of shape {theirs.input_shape} in {theirs.n_classes} classes as "
            f"{theirs.coding}, and '{run.dataset}' has {ours.input_shape} in {ours.n_classes} as "
            f"{ours.coding}; expected the same but for the steps. Choose the data set that it was trained on"
        )


def network_of(run: RunConfig, parent: BirilNet | None) -> Any:
    """What is trained: a new network, the parent at the steps of the run, or this on integers."""
    from biril_nm.models import build_model
    from biril_nm.training.integers import quantized

    if parent is None:
        return build_model(run.model, run.net, run.seed)
    if run.net != parent.config:
        weights = parent.state_dict()
        parent = build_model(run.model, run.net, run.seed)
        parent.load_state_dict(weights)
    return quantized(parent, run.integers) if run.integers else parent
