"""One cell of a study: train a network, choose its epoch by validation, and measure it once."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.data import DataSet, Split, get_shift, load_data, make_loaders
from biril_nm.errors import BirilError, FileFormatError
from biril_nm.evaluation import evaluate_graph
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hardware_sim.cost import Activity, estimate_energy
from biril_nm.hw_graph import LoihiGraph
from biril_nm.models import BirilNet, build_model
from biril_nm.models.spiking_net import SpikingNet
from biril_nm.storage import atomic_file, read_bytes, read_json
from biril_nm.studies.adaptation import samples_per_class
from biril_nm.studies.finetuning import finetune
from biril_nm.studies.grid.checks import check_classes, check_samples
from biril_nm.studies.grid.plan import Method, StudyPlan
from biril_nm.training import fit
from biril_nm.training.best import VALIDATION
from biril_nm.training.checkpoint import CHECKPOINT

__all__ = ["RUN", "Cell", "CellResult", "parts_of", "read_result", "run_cell", "work"]

log = logging.getLogger(__name__)

RESULT = "result.json"
RUN = "run"  # name of the folder of a cell's training, which goes once there is a result
MAX_STAMP_BYTES = 64
MAX_RESULT_BYTES = 16 << 20  # with an accuracy for each epoch
CALIBRATION = 200  # training samples that show lowering what values occur
UNUSED = "-"  # of a test sample
TRAIN, TEST = 4, 5  # what the order of samples is drawn for
ENERGY_SAMPLES = 200  # test samples whose events are counted


@dataclass(frozen=True)
class Cell:
    """Plain data that can be sent to any process.

    Attributes:
        plan: the study.
        method: row.
        seed: column.
        folder: of this cell.
        data_root: folder of the data sets.
    """

    plan: StudyPlan
    method: Method
    seed: int
    folder: str
    data_root: str | None = None


@dataclass(frozen=True)
class CellResult:
    """What a cell has measured; accuracies are shares 0..1.

    Attributes:
        method: row.
        seed: column.
        digest: of all that the result depends on.
        validation: accuracy on the validation samples after each epoch.
        epoch: the best of them, counted from 1.
        accuracy: of the float network of that epoch, on the test samples.
        right: a character for each sample of the test set: ``1`` where that network is right, ``0`` where
            it is wrong, ``-`` where the study does not use the sample.
        integers: weight bits to accuracy of the integer network.
        spikes: spikes of all neurons per sample, at the first of the bits.
        energy_j: modelled energy of a sample, at the first of the bits.
        frozen: shift to accuracy in the changed world.
        learned: the same after the readout learned on the chip.
        seconds: of the cell, training included.
    """

    method: str
    seed: int
    digest: str
    validation: tuple[float, ...]
    epoch: int
    accuracy: float
    right: str = ""
    integers: Mapping[str, float] = field(default_factory=dict)
    spikes: float = 0.0
    energy_j: float = 0.0
    frozen: Mapping[str, float] = field(default_factory=dict)
    learned: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def recovered(self) -> float | None:
        """Points that learning on the chip gave back, mean over the shifts; None without shifts."""
        if not self.learned:
            return None
        return float(np.mean([self.learned[name] - self.frozen[name] for name in self.learned]))

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> CellResult:
        """From the JSON of a cell.

        Raises:
            ValueError, TypeError, KeyError: damaged.
        """
        result = CellResult(**{**values, "validation": tuple(values["validation"])})
        numbers = [
            *result.validation,
            result.accuracy,
            result.spikes,
            result.energy_j,
            result.seconds,
        ]
        for table in (result.integers, result.frozen, result.learned):
            numbers += list(table.values())
        if (
            not all(type(n) in (int, float) for n in numbers)
            or result.frozen.keys() != result.learned.keys()
            or set(result.right) - set("01-")
        ):
            raise ValueError("values are not numbers")
        return result


def read_result(folder: Path, plan: StudyPlan, method: Method, seed: int) -> CellResult | None:
    """The result of a cell; None where there is none, or one of another plan.

    Raises:
        FileFormatError: a damaged file.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        result = CellResult.from_dict(read_json(path, MAX_RESULT_BYTES, follow_links=False))
        if result.digest != plan.digest(method, seed):
            return None
        if (result.method, result.seed) != (method.name, seed) or not _fits(plan, result):
            raise ValueError("values do not fit the study")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileFormatError(
            f"'{path}' holds no result of a cell: {error!r:.200}. Remove it"
        ) from error
    return result


def _fits(plan: StudyPlan, result: CellResult) -> bool:
    """Whether a result has all that the table of its study shows."""
    shares = [*result.validation, result.accuracy, *result.integers.values()]
    shares += [*result.frozen.values(), *result.learned.values()]
    right, n_test = result.right.count("1"), len(result.right.replace(UNUSED, ""))
    return (
        set(result.integers) == set(map(str, plan.bits))
        and set(result.learned) == set(plan.shifts)
        and len(result.validation) == plan.epochs
        and 1 <= result.epoch <= plan.epochs
        and all(0 <= share <= 1 for share in shares)
        and n_test == (plan.n_test or len(result.right))
        and right / max(1, n_test) == result.accuracy
    )


def run_cell(cell: Cell) -> CellResult:
    """Train and measure, or return the result that is there; an interrupted training goes on.

    Raises:
        BirilError: settings that do not fit the data or each other.
    """
    import torch

    folder, plan = Path(cell.folder), cell.plan
    digest = plan.digest(cell.method, cell.seed)
    done = read_result(folder, plan, cell.method, cell.seed)
    if done is not None:
        shutil.rmtree(folder / RUN, ignore_errors=True)  # of a kill between the result and this
        return done
    start = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of floats depend on the number
    try:
        result = _run(cell, digest)
    finally:
        torch.set_num_threads(threads)
    result = replace(result, seconds=round(time.perf_counter() - start, 3))
    with atomic_file(folder / RESULT) as part:
        part.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    shutil.rmtree(folder / RUN)
    return result


def _run(cell: Cell, digest: str) -> CellResult:
    """Train and measure."""
    plan, seed = cell.plan, cell.seed
    whole = load_data(plan.data, cell.data_root, seed)
    data = parts_of(plan, whole, seed)
    net, validation = _trained(cell, data, digest)
    right = _right(net, make_loaders(data, 250, seed)[1])
    signs = np.full(len(whole.test), UNUSED)
    signs[_drawn(whole.test, plan.n_test, seed, TEST)] = np.where(right, "1", "0")
    result = CellResult(
        method=cell.method.name,
        seed=seed,
        digest=digest,
        validation=validation,
        epoch=int(np.argmax(validation)) + 1,
        accuracy=int(right.sum()) / len(right),
        right="".join(signs),
    )
    return _measure(plan, result, net, data, seed)


def parts_of(plan: StudyPlan, data: DataSet, seed: int) -> DataSet:
    """The samples of a cell, drawn by its seed: first those for training, then those for validation.

    Raises:
        ConfigError: there are fewer than the study takes, of all classes or of one.
    """
    check_samples(plan, data)
    train = data.train.take(_drawn(data.train, plan.n_train + plan.n_validation, seed, TRAIN))
    check_classes(plan, train.labels, data.n_classes)
    return replace(
        data,
        train=train,
        test=data.test.take(_drawn(data.test, plan.n_test, seed, TEST)),
    )


def _drawn(samples: Split, n: int | None, seed: int, draw: int) -> NDArray[np.int64]:
    """Rows in an order drawn by the seed, since files may be sorted by class."""
    return np.random.default_rng([seed, draw]).permutation(len(samples))[:n]


def _trained(cell: Cell, data: DataSet, digest: str) -> tuple[BirilNet, tuple[float, ...]]:
    """The network of the best epoch, and the accuracy after each."""
    plan, folder = cell.plan, Path(cell.folder)
    run = plan.run_config(cell.method, cell.seed).with_data(data)
    net = build_model(run.model, run.net, run.seed)
    rows = np.arange(len(data.train))
    train, held_out = (data.train.take(part) for part in np.split(rows, [plan.n_train]))
    parts = DataSet(data.name, train, held_out, data.n_classes)
    loaders = make_loaders(parts, run.batch_size, run.seed, run.crop_pad, augment=run.augment)
    home = folder / RUN
    stamp = home / "plan"
    if not _is_of(stamp, digest):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        with atomic_file(stamp) as part:
            part.write_text(digest, encoding="utf-8")
    resume = (home / CHECKPOINT).exists()
    history = fit(net, loaders, run.train, out_dir=home, resume=resume, force=not resume)
    return net, tuple(float(r[VALIDATION]) for r in history.records)


def _right(net: SpikingNet, loader: Iterable[tuple[Any, Any]]) -> NDArray[np.bool_]:
    """Which samples a network classifies rightly; its mean is that of :func:`biril_nm.training.evaluate`."""
    import torch

    net.eval()
    found = []
    with torch.no_grad():
        for index, (values, labels) in enumerate(loader):
            x = net.encode(values, index).to(next(net.parameters()).device)
            found.append(net(x).predictions.cpu().numpy() == np.asarray(labels))
    return np.concatenate(found)


def _is_of(stamp: Path, digest: str) -> bool:
    """Whether a half trained network belongs to the plan; what cannot be read does not."""
    try:
        return read_bytes(stamp, MAX_STAMP_BYTES, follow_links=False) == digest.encode()
    except FileFormatError:
        return False


def _measure(
    plan: StudyPlan, result: CellResult, net: BirilNet, data: DataSet, seed: int
) -> CellResult:
    """Integer networks, their spikes and energy, and what learning on the chip recovers."""
    coding, values, labels = net.config.coding, data.test.values(), data.test.labels
    calibration = coding.encode(data.train.values(slice(CALIBRATION)), seed)
    written = to_nir(net)
    integers: dict[str, float] = {}
    graphs: list[LoihiGraph] = []
    for bits in plan.bits:
        graphs.append(lower(written, calibration=calibration, weight_bits=bits))
        integers[str(bits)] = evaluate_graph(graphs[-1], values, labels, coding, seed=seed).accuracy
    if not graphs:
        return result
    shown = coding.encode(values[:ENERGY_SAMPLES], seed)
    recording = simulate(graphs[0], shown, record=("s",))
    spikes = sum(recording.n_spikes.values()) / shown.shape[1]
    energy = estimate_energy(graphs[0], Activity.of(graphs[0], recording, shown))
    frozen, learned = _adapted(plan, graphs[0], net, data, seed)
    return replace(
        result,
        integers=integers,
        spikes=spikes,
        energy_j=energy.joules,
        frozen=frozen,
        learned=learned,
    )


def _adapted(
    plan: StudyPlan, graph: LoihiGraph, net: BirilNet, data: DataSet, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy in each changed world, without learning and with."""
    coding, labels = net.config.coding, data.test.labels
    frozen, learned = {}, {}
    for name in plan.shifts:
        shift = get_shift(name)
        changed = shift(data.test.values(), seed, draw=1)
        chosen = samples_per_class(data.train.labels, plan.per_class, data.n_classes, seed)
        spikes = coding.encode(shift(data.train.values(chosen), seed, draw=0), seed)
        taught = finetune(graph, spikes, data.train.labels[chosen], None, seed)
        frozen[name] = evaluate_graph(graph, changed, labels, coding, seed=seed).accuracy
        learned[name] = evaluate_graph(taught, changed, labels, coding, seed=seed).accuracy
    return frozen, learned


def work(cell: Cell) -> tuple[Cell, CellResult | str]:
    """:func:`run_cell` in a worker, which returns an error as text."""
    try:
        return cell, run_cell(cell)
    except BirilError as error:
        return cell, str(error)
    except Exception as error:  # torch raises anything, as where memory is exhausted; others run on
        log.debug("cell %s, seed %d", cell.method.name, cell.seed, exc_info=True)
        return cell, f"{type(error).__name__}: {error}"
