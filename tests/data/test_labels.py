"""Labels and samples that do not fit are refused by everything that takes them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import DataSet, Split
from biril_nm.data.labels import check_labels
from biril_nm.errors import ConfigError
from biril_nm.evaluation import EvaluationOptions, evaluate_graph
from biril_nm.evaluation.sharding import ArraySamples, evaluate_sharded
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.recording.readout import predict
from biril_nm.studies.adaptation import samples_per_class
from biril_nm.studies.finetuning import finetune
from biril_nm.studies.readout import plastic_readout, stream, target_spikes
from biril_nm.studies.ridge import fit_ridge
from biril_nm.training import evaluate

STEPS, BATCH, CLASSES = 5, 8, 3
RANDOM = np.random.default_rng(3)
DRAWN = RANDOM.standard_normal((CLASSES, 24))
BALANCED = 2 * np.rint(20 * (DRAWN - DRAWN.mean(axis=1, keepdims=True))).astype(int)
GRAPH = LoihiGraph(
    {
        "in": Input((6,)),
        "w": Dense(RANDOM.integers(-60, 60, (24, 6)) & ~1),
        "h": Neurons((24,), vth=30, dv=900),
        "fc": Dense(BALANCED),
        "o": Neurons((CLASSES,), vth=40, dv=900),
        "end": Output(),
    },
    (("in", "w"), ("w", "h"), ("h", "fc"), ("fc", "o"), ("o", "end")),
)
SPIKES = (RANDOM.random((STEPS, BATCH, 6)) < 0.5).astype(np.int32)
IMAGES = RANDOM.random((BATCH, 6)).astype(np.float32)
NET = bnm.build_model("mlp", bnm.ModelConfig(input_shape=(6,), hidden=(4,), n_classes=CLASSES), 0)
RIDGE = fit_ridge(IMAGES, np.arange(BATCH) % CLASSES, CLASSES)

TAKE_LABELS = {
    "evaluate_graph": lambda labels: evaluate_graph(GRAPH, SPIKES, labels, Coding("spikes")),
    "images": lambda labels: evaluate_graph(GRAPH, IMAGES, labels, Coding("rate", STEPS)),
    "evaluate": lambda labels: evaluate(NET, [(IMAGES, labels)]),
    "fit": lambda labels: bnm.fit(
        NET, ([(IMAGES, labels)], None), bnm.TrainConfig(schedule="B", epochs=1)
    ),
    "finetune": lambda labels: finetune(GRAPH, SPIKES, labels),
    "stream": lambda labels: stream(plastic_readout(GRAPH), SPIKES, labels),
    "fit_ridge": lambda labels: fit_ridge(IMAGES, labels, CLASSES),
    "ridge": lambda labels: RIDGE.accuracy(IMAGES, labels),
}


@pytest.mark.parametrize("take", TAKE_LABELS.values(), ids=TAKE_LABELS)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(5, int), "there are 5 labels for 8 "),
        (np.zeros(9, int), "there are 9 labels for 8 "),
        (np.zeros((8, 3), int), r"labels have shape \(8, 3\); expected \(8,\).*argmax\(axis=1\)"),
        (np.full(8, CLASSES), "labels are 3 to 3; expected 0 to 2"),
        (np.full(8, -1), "labels are -1 to -1; expected 0 to 2"),
        (np.full(8, 0.5), "labels are of type float64, not whole numbers"),
        (np.full(8, np.nan), "labels are of type float64, not whole numbers"),
        (
            np.array(list("abcdefgh")),
            "labels (are of type <U1, not whole numbers|is a ndarray .* expected an array of numbers)",
        ),
    ],
    ids=["few", "many", "one-hot", "above", "below", "fractions", "nan", "texts"],
)
def test_labels_that_do_not_fit_are_refused(take, labels, message):
    with pytest.raises(ConfigError, match=message):
        take(labels)


@pytest.mark.parametrize("take", TAKE_LABELS.values(), ids=TAKE_LABELS)
def test_labels_that_fit_are_taken(take):
    for labels in (np.arange(BATCH) % CLASSES, [0.0, 1.0] * 4, [0, 1] * 4):
        take(labels)


def test_parts_of_data_sets_have_a_label_for_each_sample():
    raw = np.zeros((4, 1, 2, 2), np.uint8)
    assert len(Split(raw, np.arange(4), top=1)) == 4
    with pytest.raises(ConfigError, match=r"3 labels for 4 samples in raw of shape \(4, 1, 2, 2\)"):
        Split(raw, np.arange(3), top=1)
    whole = Split(raw, np.arange(4), top=1)
    for take in (
        lambda: target_spikes(np.arange(4), 3, n_steps=2),
        lambda: DataSet("four", whole, whole.head(2), n_classes=3),
        lambda: samples_per_class(np.arange(4), 1, 3, seed=0),
    ):
        with pytest.raises(ConfigError, match="labels are 0 to 3; expected 0 to 2"):
            take()
    assert DataSet("four", whole, whole.head(2), n_classes=4).n_classes == 4
    with pytest.raises(ConfigError, match="labels are -1 to 1; expected 0 or more"):
        check_labels([-1, 1], 2)


def test_batch_first_spikes_are_refused():
    """(batch, n_steps, *shape) holds as many samples as it should hold steps."""
    labels = np.zeros(BATCH, int)
    turned = SPIKES.swapaxes(0, 1)
    for take in (
        lambda: finetune(GRAPH, turned, labels),
        lambda: stream(plastic_readout(GRAPH), turned, labels),
        lambda: evaluate_graph(GRAPH, turned, labels, Coding("spikes")),
    ):
        with pytest.raises(ConfigError, match=r"8 labels for 5 samples in .* shape \(8, 5, 6\)"):
            take()


def test_finetune_refuses_spikes_of_another_shape():
    with pytest.raises(ConfigError, match=r"shape \(5, 8, 7\); expected \(n_steps, batch, 6\)"):
        finetune(GRAPH, np.zeros((STEPS, BATCH, 7), int), np.zeros(BATCH, int))


@pytest.mark.parametrize("batch_size", [1, 3, 8, 250])
@pytest.mark.parametrize("kind", ["spikes", "counts", "signed"])
def test_batches_cut_samples_and_never_steps(batch_size, kind):
    graph = GRAPH
    values = SPIKES
    if kind != "spikes":
        graph = graph.with_node("in", message_bits=3, signed=kind == "signed")
        low = -7 if kind == "signed" else 0
        values = np.random.default_rng(5).integers(low, 8, SPIKES.shape)
    run = simulate(graph, values)
    labels = predict(graph, run)
    assert len(set(labels.tolist())) > 1 and run.n_spikes["o"]
    coding = Coding(kind, 1, 3)  # its own number of steps has no say: the values hold every step
    found = evaluate_graph(graph, values, labels, coding, batch_size=batch_size)
    assert (found.accuracy, found.n_samples) == (1.0, BATCH)
    rate = run.n_spikes["o"] / (STEPS * BATCH * CLASSES)
    assert found.firing_rates["o"] == pytest.approx(rate, rel=1e-12)
    part = ArraySamples(values, labels, axis=1).part(2, 5)
    assert_array_equal(part.read()[0], values[:, 2:5])
    assert_array_equal(part.read()[1], labels[2:5])
    assert_array_equal(coding.samples(values, slice(2, 5)), values[:, 2:5])


@pytest.mark.slow  # starts processes
def test_shards_cut_samples_and_never_steps():
    labels = predict(GRAPH, simulate(GRAPH, SPIKES))
    samples = ArraySamples(SPIKES, labels, axis=1)
    options = EvaluationOptions(batch_size=3)
    found = evaluate_sharded(GRAPH, samples, Coding("spikes"), n_workers=2, options=options)
    assert (found.accuracy, found.n_samples) == (1.0, BATCH)


def test_samples_in_memory_say_which_axis_they_are_on():
    with pytest.raises(ConfigError, match=r"8 labels for 5 samples in .*\(5, 8, 6\) \(axis=0\)"):
        ArraySamples(SPIKES, np.zeros(BATCH, int))
    with pytest.raises(
        ConfigError, match=r"axis is 2 of values of shape \(5, 8, 6\); expected 0, or"
    ):
        ArraySamples(SPIKES, np.zeros(BATCH, int), axis=2)
    with pytest.raises(
        ConfigError, match=r"values have shape \(8,\); spikes coding expects \(n_st"
    ):
        evaluate_graph(GRAPH, np.zeros(8, int), np.zeros(8, int), Coding("spikes"))
    with pytest.raises(ConfigError, match="batch_size is 0; expected an integer from 1"):
        evaluate_graph(GRAPH, SPIKES, np.zeros(BATCH, int), Coding("spikes"), batch_size=0)
