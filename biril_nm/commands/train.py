"""``biril train``: BIRIL on a data set, from a configuration file or from options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from biril_nm.arguments import MAX_SEED
from biril_nm.commands.console import (
    print_json,
    print_progress,
    print_table,
    progress_bar,
    say,
)
from biril_nm.commands.interrupts import check_stopped, keeping
from biril_nm.commands.loggers import logger_options, loggers_of
from biril_nm.commands.options import (
    MAX_COUNT,
    CodingName,
    DataRoot,
    DataSetName,
    Force,
    Json,
    NeuronName,
    PrecisionName,
    RecipeName,
    RuleName,
)
from biril_nm.commands.parent import (
    check_data,
    integer_defaults,
    network_of,
    parent_of,
    with_parent,
)
from biril_nm.commands.print_config import PrintConfig, printed
from biril_nm.commands.run_folders import (
    check_same,
    interrupted_run,
    kept,
    refuse_existing,
    usual_folder,
)
from biril_nm.commands.sources import CONFIG, GRAPH, MODEL
from biril_nm.commands.unused import refuse_unused
from biril_nm.errors import ConfigError

if TYPE_CHECKING:
    from biril_nm.data import DataSet

__all__ = ["train_command"]

NO_CHANGES = "none"
LOCAL_PHASES = frozenset("SH")  # that follow a local rule

Text = str | None
Number = int | None


def train_command(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG.toml]", help="Settings, as a run leaves them in its folder."
        ),
    ] = None,
    recipe: RecipeName = None,
    dataset: DataSetName = None,
    model: Annotated[
        Text, typer.Option(help="convnet, vgg, mlp, resnet, biril, braincog_...: docs/networks.md.")
    ] = None,
    schedule: Annotated[
        Text, typer.Option(help="Ratio STDP:STBP:STDP-STBP (1:6:2), or cycle (BBSBBH; brp,B).")
    ] = None,
    epochs: Annotated[
        Number, typer.Option(min=1, max=MAX_COUNT, help="Default: one cycle.")
    ] = None,
    rule: RuleName = None,
    neuron: NeuronName = None,
    coding: CodingName = None,
    steps: Annotated[
        Number, typer.Option(min=1, max=MAX_COUNT, help="Time steps per sample.")
    ] = None,
    batch_size: Annotated[
        Number, typer.Option(min=1, max=MAX_COUNT, help="Samples per batch.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Initial learning rate.")] = None,
    augment: Annotated[
        Text,
        typer.Option(help="Random changes of samples, as crop:4,flip; 'none': none."),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=0.9,
            help="Share of the training samples to measure each epoch on; the best epoch is kept, and the "
            "test set used once.",
        ),
    ] = None,
    parent: Annotated[
        Text,
        typer.Option(
            "--from",
            help="model.pt, or folder of a run, to start from instead of new weights; --steps may change.",
        ),
    ] = None,
    integers: Annotated[
        Text,
        typer.Option(
            help="Train the network of --from on the chip's integers: bits per weight (4; graded input keeps "
            "8), bits by name (conv1=8,*=3), or ternary. Writes model.loihi.npz."
        ),
    ] = None,
    data_root: DataRoot = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the data set where its library can.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Processes that read and augment samples ahead.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Output folder.")] = None,
    seed: Annotated[
        Number, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random.")
    ] = None,
    device: Annotated[Text, typer.Option(help="auto, cpu, cuda, ...")] = None,
    precision: PrecisionName = None,
    devices: Annotated[
        Number,
        typer.Option(min=1, max=MAX_COUNT, help="Processes on each machine, one per device."),
    ] = None,
    nodes: Annotated[Number, typer.Option(min=1, max=MAX_COUNT, help="Machines.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    logger: Annotated[
        Text,
        typer.Option(
            help="Pass epochs on to tensorboard (else if installed), wandb, or both; 'none': no events."
        ),
    ] = None,
    print_config: PrintConfig = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a network with cycles of STBP, STDP and STDP-STBP.

    Writes model.pt, config.toml, metrics.jsonl, checkpoint.pt, TensorBoard events and curves.png.

    Example: biril train --dataset digits --schedule BBSBBH --out out

    Example: biril train --dataset digits --from out/model.pt --integers 4 --out out-4
    """
    from biril_nm.data import load_data, make_loaders
    from biril_nm.storage import read_toml
    from biril_nm.training import fit
    from biril_nm.training.world import leads

    options: dict[str, Any] = {
        "dataset": dataset, "model": model, "seed": seed, "batch_size": batch_size,
        "schedule": schedule, "epochs": epochs, "lr": lr, "device": device, "precision": precision,
        "augment": _changes(augment), "validation": validation,
        "keep": "last" if validation == 0 else None, **logger_options(logger),
        "devices": devices, "nodes": nodes, "parent": parent, "integers": integers, "neuron": neuron,
    }  # fmt: skip
    folder = out
    if resume:
        folder = out or usual_folder(_settings(config, recipe, None, options))
        before = interrupted_run(folder)
    run = _settings(config, recipe, before if resume else None, options)
    start = parent_of(run, folder if resume else None)
    given = {"--model": model, "--neuron": neuron, "--coding": coding}
    stated = resume or (config is not None and "net" in read_toml(config))
    run = with_parent(run, start, given, steps, stated)
    run = printed(_with_net_options(run, coding, steps, rule), print_config)
    folder = folder or usual_folder(run)
    shown = {"--coding": coding, "--steps": steps}
    run, data = _with_data(run, load_data(run.dataset, data_root, run.seed, download), shown)
    check_data(run, start)
    if resume:
        check_same(run, before, folder)
    net = network_of(run, start)
    changes = {"augment": run.augment, "workers": workers}
    loaders = make_loaders(data, run.batch_size, run.seed, run.crop_pad, **changes)
    refuse_existing(folder, resume, force, (config, recipe, run.parent))
    loggers, bar = loggers_of(run, folder), _Bar()
    try:
        with keeping(lambda: kept(folder, run.train.epochs)):
            history = fit(
                net, loaders, run.train,
                callbacks=[*loggers, bar.callback(lambda: _begin(run, start, folder))],
                out_dir=folder, resume=resume, force=force,
            )  # fmt: skip
    finally:
        bar.close()
    if leads():
        once = _test_once(net, data.test, run.seed) if run.validation else None
        _show(history.records, folder / (GRAPH if run.integers else MODEL), json, once)


def _begin(run: Any, parent: Any, folder: Path) -> None:
    """Write what a resumed run needs, beside its checkpoint."""
    from biril_nm.models import save
    from biril_nm.training.run_folder import PARENT

    # After a resume the parent may be the network that trains on, no longer what it was.
    if parent is not None and not (folder / PARENT).is_file():
        save(parent, folder / PARENT)
    run.write(folder / CONFIG)


def _settings(config: Path | None, recipe: str | None, before: Any, options: dict[str, Any]) -> Any:
    """The configuration of a file, of a recipe, or of the run that is resumed, with the options."""
    from biril_nm.training.run_config import RunConfig
    from biril_nm.training.world import launched

    if launched() is not None and options["devices"] is None and options["nodes"] is None:
        options = {**options, "devices": 1, "nodes": 1}  # the processes of torchrun, not of a file
    if config is not None and recipe is not None:
        raise ConfigError(
            f"recipe is '{recipe}', and a configuration is given, '{config}'; expected one of them. Write "
            f"what you want from the recipe into the configuration"
        )
    if config is not None:
        return RunConfig.read(config, **options)
    if before is not None and recipe is None:
        return before.with_options(**options)
    return RunConfig.make(recipe=recipe, **integer_defaults(options))


def _changes(text: str | None) -> list[str] | None:
    """The changes of ``--augment``; None where it is not given."""
    if text is None:
        return None
    return [] if text == NO_CHANGES else text.split(",")


def _with_data(run: Any, data: DataSet, shown: dict[str, Any]) -> tuple[Any, DataSet]:
    """The configuration with the shape and classes of the data, and the data with a validation part.

    Frames of events have their coding by themselves: ``shown``, the options of it, would change nothing.
    """
    flags = [flag for flag, value in shown.items() if value is not None]
    if run.validation:
        data = data.with_validation(run.validation, run.seed)
        run = run.with_options(keep="best")
    elif run.train.keep == "best":
        raise ConfigError(
            f"keep is 'best' and validation {run.validation:g}, so that the test set would choose the epoch "
            f"that it is measured on; expected validation samples. Give --validation 0.1, or set keep to "
            f"'last' (--validation 0)"
        )
    if data.train.n_steps is not None and flags:
        refuse_unused(
            [
                f"{', '.join(flags)}: frames of events are the steps, and counts the messages; give "
                f"--dataset {data.name}:steps={shown['--steps'] or data.train.n_steps},binary=no"
            ]
        )
    return run.with_data(data), data


def _test_once(net: Any, test: Any, seed: int) -> float:
    """Accuracy on the test set of the weights that the validation samples chose."""
    from biril_nm.data import Batches
    from biril_nm.training import evaluate

    return float(evaluate(net, Batches(test, 250), seed).accuracy)


def _with_net_options(run: Any, coding: Text, steps: int | None, rule: Text) -> Any:
    from biril_nm.coding import Coding
    from biril_nm.learning.rules import get_rule

    old = run.net.coding
    if coding in ("spikes", "counts"):
        raise ConfigError(
            f"coding is '{coding}', which data sets of events have by themselves; expected direct, rate or "
            f"signed, for images"
        )
    kind = old.kind if coding is None else coding
    new = Coding(kind, steps or old.n_steps, old.message_bits or 8)
    run = replace(run, net=replace(run.net, coding=new))
    if rule is not None:
        if not LOCAL_PHASES & set(run.train.phases):
            refuse_unused([f"--rule: schedule '{run.train.schedule}' has no phase S or H"])
        plasticity = replace(run.train.plasticity, rule=get_rule(rule))
        run = replace(run, train=replace(run.train, plasticity=plasticity))
    return run


class _Bar:
    """Progress on stderr: a bar on a terminal, one line per epoch elsewhere."""

    def __init__(self) -> None:
        self.progress = progress_bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(),
        )
        self.task = self.progress.add_task("", total=None, loss="-")

    def close(self) -> None:
        """Remove the bar."""
        self.progress.stop()

    def callback(self, begin: Callable[[], None]) -> Any:
        """The observer that :func:`biril_nm.training.fit` calls; ``begin`` once it starts."""
        from biril_nm.training.callbacks import Callback

        bar = self

        class Observer(Callback):
            def on_train_start(self, first_epoch: int, n_epochs: int) -> None:
                begin()

            def on_epoch_start(self, epoch: int, n_epochs: int, phase: str, n_batches: int) -> None:
                text = f"epoch {epoch + 1}/{n_epochs} {phase}"
                bar.progress.reset(bar.task, total=n_batches, description=text, loss="-")

            def on_batch(self, index: int, n_batches: int, metrics: dict[str, float]) -> None:
                check_stopped()
                loss = metrics.get("loss")
                text = "-" if loss is None else f"{loss:.3f}"
                bar.progress.update(bar.task, completed=index + 1, loss=text)

            def on_epoch_end(self, record: dict[str, Any]) -> None:
                print_progress(_line(record))

        return Observer()


def _line(record: dict[str, Any]) -> str:
    loss, (name, accuracy) = record.get("loss"), _held_out(record)
    return (
        f"epoch {record['epoch']:3d}  {record['phase']}  "
        f"loss {'-' if loss is None else f'{loss:.4f}'}  "
        f"{name} {'-' if accuracy is None else f'{accuracy:.2%}'}  {record['seconds']:.1f} s"
    )


def _held_out(record: dict[str, Any]) -> tuple[str, float | None]:
    """Which samples an epoch was measured on, and the accuracy."""
    from biril_nm.training.best import TEST, VALIDATION

    if VALIDATION in record:
        return "validation", record[VALIDATION]
    return "test", record.get(TEST)


def _show(
    records: list[dict[str, Any]], result: Path, json: bool, test_accuracy: float | None
) -> None:
    """The epochs; ``test_accuracy`` where validation samples chose one of them."""
    from biril_nm.training.best import VALIDATION

    if json:
        once = {} if test_accuracy is None else {"test_accuracy": test_accuracy}
        print_json({"out": str(result.parent), "epochs": records, **once})
        return
    rows = [
        (
            str(r["epoch"]),
            str(r["phase"]),
            f"{r['loss']:.4f}" if r.get("loss") is not None else "-",
            f"{r['train_accuracy']:.2%}" if r.get("train_accuracy") is not None else "-",
            f"{accuracy:.2%}" if accuracy is not None else "-",
        )
        for r, (_, accuracy) in zip(records, map(_held_out, records))
    ]
    measured = f"{_held_out(records[-1])[0]} accuracy"
    print_table("", ("epoch", "phase", "loss", "train accuracy", measured), rows)
    if test_accuracy is not None:
        best = max(records, key=lambda record: float(record[VALIDATION]))["epoch"]
        say(f"test set, once, with the weights of epoch {best}: {test_accuracy:.2%}")
    say(f"wrote {result}")
