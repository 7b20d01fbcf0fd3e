"""Placement on cores: every neuron once, every limit kept, and what does not fit is reported."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse

from biril_nm.errors import ConfigError, RangeError
from biril_nm.hardware_sim import map_to_chip
from biril_nm.hardware_sim.mapping.placement import COLUMNS
from biril_nm.hardware_sim.mapping.splits import BlockGrid, synapse_demand
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.loihi import LOIHI1, LOIHI2
from biril_nm.loihi.cores import LOIHI1_LIMITS, LOIHI2_LIMITS, Limit, limits_of
from tests.support.cores import small_cores, stored_matrix
from tests.support.random_graphs import random_graph

LIMITS = ("neurons", "synapse_bits", "axons_in", "axons_out", "neuron_groups", "synapse_formats")


def tight():
    """Limits that small random graphs run into."""
    return replace(
        small_cores(),
        synapse_bits=Limit(4096, "test"), axons_in=Limit(60, "test"), axons_out=Limit(20, "test"),
        neuron_groups=Limit(2, "test"),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("limits", [LOIHI1_LIMITS, LOIHI2_LIMITS, tight()])
def test_every_neuron_is_placed_once_and_limits_hold(seed, limits):
    graph = random_graph(seed)
    mapping = map_to_chip(graph, limits)
    for name in graph.neurons:
        placed = np.zeros(mapping.splits[name].shape, dtype=int)
        for part in mapping.parts[name]:
            block = tuple(slice(*bound) for bound in part.bounds)
            placed[block] += 1
            assert part.neurons == placed[block].size
        assert (placed == 1).all()
    unfit = {finding.node for finding in mapping.findings}
    for core in mapping.cores:
        if unfit.isdisjoint({part.node for part in core.parts}):
            for limit in LIMITS:
                assert getattr(core, limit) <= getattr(mapping.limits, limit).value, limit


@pytest.mark.parametrize("seed", range(20))
def test_axons_equal_brute_force(seed):
    graph = random_graph(seed)
    limits = replace(small_cores(), population_axons=False)
    mapping = map_to_chip(graph, limits)
    assert sum(len(parts) for parts in mapping.parts.values()) >= 2
    for name in graph.neurons:
        matrices = {c: stored_matrix(graph, c) for c in graph.connections}
        for block, part in enumerate(mapping.parts[name]):
            inside = mapping.splits[name].block_of == block
            axons_in = sum(int(matrices[c][inside].any(axis=0).sum()) for c in graph.incoming(name))
            assert part.axons_in == axons_in
            axons_out = 0
            for connection, (source, target) in graph.ends.items():
                if source == name:
                    reached = matrices[connection][:, inside] > 0
                    blocks = mapping.splits[target].block_of
                    axons_out += sum(len(set(blocks[column])) for column in reached.T)
            assert part.axons_out == axons_out


def test_the_worked_example_of_synapse_memory():
    """256 axons of 100 static 8-bit dense synapses on Loihi 1: blocks of 64 and 36."""
    graph = chain(Dense(np.full((100, 256), 2)), (256,), (100,))
    split = BlockGrid((100, 1, 1), (1, 1, 1))
    axons, bits = synapse_demand(graph, "c", split, LOIHI1_LIMITS)
    words = -(-(64 * 8 + 10) // 64) + -(-(36 * 8 + 10) // 64)
    assert (axons.item(), bits.item()) == (256, 256 * words * 64)


def test_delays_tags_and_indices_take_memory():
    weight = np.full((8, 4), 2)
    split = BlockGrid((8, 1, 1), (1, 1, 1))

    def bits(node):
        return synapse_demand(chain(node, (4,), (8,)), "c", split, LOIHI1_LIMITS)[1].item()

    assert bits(Dense(weight)) == 4 * 128  # 8 * 8 + 10 bits
    assert bits(Dense(weight, delay=3)) == 4 * 128  # 8 * 14 + 10
    assert bits(Sparse(scipy.sparse.csr_matrix(weight))) == 4 * 128  # 8 * (8 + 6) + 10
    assert bits(Sparse(scipy.sparse.csr_matrix(weight), delay=3)) == 4 * 192  # 8 * 20 + 10
    assert bits(Sparse(scipy.sparse.csr_matrix(np.eye(8, 4, dtype=int)))) == 4 * 64
    assert bits(Sparse(scipy.sparse.csr_matrix(np.eye(8, 4, k=1, dtype=int)))) == 3 * 64


@pytest.mark.parametrize(("n_post", "bits"), [(1, 64), (64, 576), (65, 640)])
def test_lists_of_synapses_are_blocks_of_64_and_a_rest(n_post, bits):
    graph = chain(Dense(np.full((n_post, 1), 2)), (1,), (n_post,))
    split = BlockGrid((n_post, 1, 1), (1, 1, 1))
    assert synapse_demand(graph, "c", split, LOIHI1_LIMITS)[1].item() == bits


def test_kernels_are_shared_within_a_core():
    """3x3 with padding on 6x6: nine kinds of position, 1 + 4 border taps sets of each axis."""
    graph = chain(Conv(np.full((4, 2, 3, 3), 2), padding=1), (2, 6, 6), (4, 6, 6))
    split = BlockGrid((4, 6, 6), (1, 1, 1))
    axons, bits = synapse_demand(graph, "c", split, LOIHI1_LIMITS)
    per_synapse = 8 + 8  # weight and the index of one of 144 targets
    sizes = [rows * columns for rows in (2, 3, 2) for columns in (2, 3, 2)]
    lists = sum(-(-(taps * 4 * per_synapse + 10) // 64) * 64 for taps in sizes)
    assert (axons.item(), bits.item()) == (36, 2 * lists)  # a population axon per pixel
    axons, bits = synapse_demand(graph, "c", split, LOIHI2_LIMITS)
    once = -(-(9 * 4 * 8 + 10) // 64) * 64
    assert (axons.item(), bits.item()) == (72, 2 * once)


def test_too_many_inputs_per_neuron_is_reported_with_the_source():
    graph = chain(Dense(np.full((10, 5000), 2)), (5000,), (10,))
    mapping = map_to_chip(graph, LOIHI1)
    assert not mapping.fits
    with pytest.raises(RangeError, match=r"'n': a single neuron needs up to 5,000 input axons; .*"
                       r"4,096 per core \(nengo/nengo-loihi .*Use fewer inputs"):  # fmt: skip
        mapping.raise_if_unfit()
    assert map_to_chip(graph, LOIHI2).fits


def test_unconfirmed_limits_warn():
    graph = chain(Dense(np.full((2, 20000), 2)), (20000,), (2,))
    mapping = map_to_chip(graph, "loihi2")
    assert mapping.fits and mapping.findings
    assert str(mapping.findings[0]).startswith("warning (unconfirmed limit)")
    mapping.raise_if_unfit()
    assert "1 warning" in mapping.summary()


def test_too_many_cores_name_the_board():
    nodes = {"in": Input((1,)), "c": Dense(np.full((200_000, 1), 2))}
    nodes |= {"n": Neurons((200_000,), vth=9), "out": Output()}
    graph = LoihiGraph(nodes, (("in", "c"), ("c", "n"), ("n", "out")))
    mapping = map_to_chip(graph, "loihi1")
    assert mapping.chips_needed == 2
    way = "Make 'n' smaller. Use fewer neurons: .* Or use a board of 2 chips \\(n_chips=2\\)"
    assert any(re.search(way, str(finding)) for finding in mapping.findings)
    assert map_to_chip(graph, "loihi1", n_chips=2).fits


def test_what_needs_the_cores_is_reported_with_its_limit():
    graph = chain(Dense(np.full((1024, 4096), 2)), (4096,), (1024,))
    limits = replace(LOIHI1_LIMITS, cores=Limit(10, "test"))
    with pytest.raises(RangeError, match=r"35 cores needed, most by 'n' \(35\) because of its "
                       r"bits of synapse memory \(1,048,576 per core: nengo/nengo-loihi .*"
                       r"expected 10 on 1 chip \(test\)\. Make 'n' smaller\. Use fewer inputs per "
                       r"neuron, fewer weight bits .* Or use a board of 4 chips"):  # fmt: skip
        map_to_chip(graph, limits).raise_if_unfit()


def test_more_chips_than_any_board_has_are_no_advice():
    graph = chain(Dense(np.full((1024, 4096), 2)), (4096,), (1024,))
    limits = replace(LOIHI1_LIMITS, cores=Limit(1, "test"))
    with pytest.raises(RangeError, match="As it is it fills 35 chips, and boards hold up to 32"):
        map_to_chip(graph, limits).raise_if_unfit()


def test_a_limit_that_single_neurons_break_is_reported_with_their_need():
    """Each neuron of "n" reaches the 5 blocks of "far"; the number is that of one neuron."""
    nodes = {"in": Input((3,)), "c": Dense(np.full((5, 3), 2)), "n": Neurons((5,), vth=9)}
    nodes |= {"d": Dense(np.full((40, 5), 2)), "far": Neurons((40,), vth=9), "out": Output()}
    edges = (("in", "c"), ("c", "n"), ("n", "d"), ("d", "far"), ("far", "out"))
    limits = replace(LOIHI1_LIMITS, neurons=Limit(8, "test"), axons_out=Limit(4, "test"))
    mapping = map_to_chip(LoihiGraph(nodes, edges), limits)
    (finding,) = mapping.findings
    assert finding.node == "n" and "needs up to 5 output axons" in finding.found


def test_different_thresholds_take_neuron_groups_on_loihi_1():
    """104 thresholds in register tables of 8 per core; Loihi 2's neurons keep their own."""
    graph = chain(Dense(np.full((208, 3), 2)), (3,), (208,))
    graph = graph.with_node("n", vth=100 + np.arange(208) // 2, bias_mant=np.arange(208))
    mapping = map_to_chip(graph, "loihi1")
    assert [core.neuron_groups for core in mapping.cores] == [8] * 13
    assert len(map_to_chip(graph.with_node("n", vth=100), "loihi1").cores) == 1
    assert len(map_to_chip(graph, "loihi2").cores) == 1


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_many_different_registers_map_within_seconds(chip):
    vth = np.random.default_rng(0).integers(1, 9999, (16, 32, 32))
    nodes = {"in": Input((1, 32, 32)), "c": Conv(np.full((16, 1, 3, 3), 2), padding=1)}
    nodes |= {"n": Neurons((16, 32, 32), vth=vth), "out": Output()}
    graph = LoihiGraph(nodes, (("in", "c"), ("c", "n"), ("n", "out")))
    began = time.process_time()  # of this process: other work on the machine does not count
    mapping = map_to_chip(graph, chip)
    assert time.process_time() - began < 5
    assert all(core.neuron_groups <= 8 for core in mapping.cores)


def test_a_connection_without_synapses_takes_nothing():
    graph = chain(Sparse(scipy.sparse.csr_matrix((40, 50), dtype=int)), (50,), (40,))
    (core,) = map_to_chip(graph, "loihi1").cores
    assert (core.neurons, core.synapse_bits, core.axons_in) == (40, 0, 0)


def test_too_many_connections_at_one_population_are_reported():
    nodes, edges = {"n": Neurons((4,), vth=9), "out": Output()}, [("n", "out")]
    for i in range(9):
        nodes |= {f"in{i}": Input((2,)), f"c{i}": Dense(np.full((4, 2), 2))}
        edges += [(f"in{i}", f"c{i}"), (f"c{i}", "n")]
    (finding,) = map_to_chip(LoihiGraph(nodes, tuple(edges)), "loihi1").findings
    assert "9 connections end here" in str(finding) and "Join connections" in finding.way_out


def test_a_board_needs_a_chip():
    with pytest.raises(ConfigError, match="n_chips is 0; expected an integer from 1"):
        map_to_chip(random_graph(0), n_chips=0)


def test_small_populations_share_a_core():
    graph = random_graph(3, "plain")
    assert len(map_to_chip(graph, "loihi2").cores) == 1


def test_unknown_chips_are_refused():
    odd = replace(LOIHI2, name="loihi9")
    with pytest.raises(ConfigError, match=r"no core limits.*loihi9.*Pass a CoreLimits"):
        limits_of(odd)
    assert all(limit.source for limit in LOIHI2_LIMITS.limits().values())


@pytest.mark.slow
def test_a_resnet_18_maps_within_seconds():
    graph = resnet18()
    assert sum(c.weight.size for c in graph.connections.values()) > 11e6
    began = time.process_time()
    mapping = map_to_chip(graph, "loihi2", n_chips=2)
    assert time.process_time() - began < 10
    assert mapping.fits, mapping.findings
    assert sum(core.neurons for core in mapping.cores) == 557_066
    assert {row[0] for row in mapping.rows()} == set(graph.neurons)
    assert {len(row) for row in mapping.rows()} == {len(COLUMNS)}
    first = map_to_chip(graph, "loihi1")
    assert not first.fits
    assert any("input axons" in str(f) or "cores needed" in str(f) for f in first.findings)


def chain(node, pre, post):
    nodes = {"in": Input(pre), "c": node, "n": Neurons(post, vth=100), "out": Output()}
    return LoihiGraph(nodes, (("in", "c"), ("c", "n"), ("n", "out")))


def resnet18(side=32):
    """Layers and residual links of a ResNet-18 for 32x32 images, with identities as 1x1 kernels."""
    nodes, edges = {"in": Input((3, side, side), 8)}, []

    def layer(name, source, shape, in_channels, kernel, stride=1, delay=0, groups=1):
        weight = np.full((shape[0], in_channels // groups, kernel, kernel), 2, dtype=np.int8)
        nodes.setdefault(name, Neurons(shape, vth=500))
        link = f"{source}-{name}"
        nodes[link] = Conv(weight, stride=stride, padding=kernel // 2, groups=groups, delay=delay)
        edges.extend([(source, link), (link, name)])

    layer("stem", "in", (64, side, side), 3, 3)
    last, channels = "stem", 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            side //= stride
            a, b = f"s{stage}.{block}.a", f"s{stage}.{block}.b"
            layer(a, last, (width, side, side), channels, 3, stride)
            layer(b, a, (width, side, side), width, 3)
            identity = {"kernel": 1, "stride": stride, "delay": 1}
            groups = channels if stride == 1 else 1
            layer(b, last, (width, side, side), channels, groups=groups, **identity)
            last, channels = b, width
    nodes |= {"fc": Dense(np.full((10, 512 * side * side), 2)), "head": Neurons((10,), vth=500)}
    nodes["out"] = Output()
    edges += [(last, "fc"), ("fc", "head"), ("head", "out")]
    return LoihiGraph(nodes, tuple(edges))


def test_fewer_blocks_may_take_more_axons():
    """Sources that feed pairs of targets, which two and four even blocks cut and three do not."""
    pairs = np.repeat([(4, 5), (0, 1), (8, 9)], 40, axis=0)
    weight = np.zeros((10, 120), int)
    weight[pairs.ravel(), np.repeat(np.arange(120), 2)] = 2
    graph = chain(Sparse(scipy.sparse.csr_matrix(weight)), (120,), (10,))
    wanted = {"axons_in": Limit(40, "test"), "neurons": Limit(5, "test")}
    found = map_to_chip(graph, replace(LOIHI1_LIMITS, **wanted))
    assert found.splits["n"].n_blocks == 3 and found.fits


@pytest.mark.parametrize("kind", [Dense, Sparse])
@pytest.mark.parametrize("seed", range(6))
def test_the_search_skips_no_split_that_fits(kind, seed):
    random = np.random.default_rng(seed)
    n_post, n_pre = (int(n) for n in random.integers(20, 90, 2))
    weight = 2 * random.integers(-9, 9, (n_post, n_pre)) * (random.random((n_post, n_pre)) < 0.3)
    graph = chain(
        kind(weight if kind is Dense else scipy.sparse.csr_matrix(weight)), (n_pre,), (n_post,)
    )
    most = n_pre if kind is Dense else int((weight != 0).sum(axis=1).max()) + 4
    wanted = {"synapse_bits": Limit(64 * n_pre, "test"), "axons_in": Limit(most, "test")}
    limits = replace(LOIHI1_LIMITS, **wanted)

    def fits(parts):
        axons, bits = synapse_demand(graph, "c", BlockGrid((n_post, 1, 1), (parts, 1, 1)), limits)
        return axons.max() <= most and bits.max() <= limits.synapse_bits.value

    smallest = next(parts for parts in range(1, n_post + 1) if fits(parts))
    found = map_to_chip(graph, limits).splits["n"].n_blocks
    if kind is Sparse:  # runs of neurons, of which even blocks are a special case
        assert 1 < found <= smallest
    else:
        assert (
            1 < smallest <= found <= smallest * 1.08 + 1
        )  # above twelve the numbers grow in steps
        assert found == smallest or found > 12


def loop(n=400, fan_in=12):
    """Neurons that receive from others, drawn at random."""
    sources = np.random.default_rng(0).permuted(np.tile(np.arange(n), (n, 1)), axis=1)[:, :fan_in]
    rows = np.repeat(np.arange(n), fan_in)
    matrix = scipy.sparse.csr_matrix(
        (np.full(n * fan_in, 2), (rows, sources.ravel())), shape=(n, n)
    )
    nodes = {"in": Input((2,)), "drive": Dense(np.full((n, 2), 2)), "n": Neurons((n,), vth=9)}
    nodes |= {"loop": Sparse(matrix), "out": Output()}
    edges = (("in", "drive"), ("drive", "n"), ("n", "loop"), ("loop", "n"), ("n", "out"))
    return LoihiGraph(nodes, edges)


def gestures(side=20):
    """A wide layer whose kernels are small, before one whose kernels take all memory of a core."""
    nodes = {"in": Input((1, side, side)), "a": Conv(np.full((8, 1, 3, 3), 2), padding=1)}
    nodes |= {
        "wide": Neurons((8, side, side), vth=9),
        "b": Conv(np.full((8, 8, 3, 3), 2), padding=1),
    }
    nodes |= {"deep": Neurons((8, side, side), vth=9), "out": Output()}
    edges = (("in", "a"), ("a", "wide"), ("wide", "b"), ("b", "deep"), ("deep", "out"))
    return LoihiGraph(nodes, edges)


CROWDED = {
    "loop": (loop, {"neurons": 60, "axons_in": 250, "axons_out": 240}),
    "gestures": (
        gestures,
        {"neurons": 300, "synapse_bits": 3000, "axons_in": 420, "axons_out": 500},
    ),
}


@pytest.mark.parametrize("case", CROWDED)
def test_what_cores_hold_is_counted_synapse_by_synapse(case):
    """Uneven blocks, and blocks of several populations on a core: each core from the matrices alone."""
    make, most = CROWDED[case]
    graph = make()
    limits = replace(LOIHI2_LIMITS, **{key: Limit(n, "test") for key, n in most.items()})
    found = map_to_chip(graph, limits)
    assert not [finding for finding in found.findings if finding.node != "chip"]
    assert any(split.uneven for split in found.splits.values())
    matrices = {c: stored_matrix(graph, c) > 0 for c in graph.connections}
    home = {name: np.full(node.size, -1) for name, node in graph.neurons.items()}
    for core in found.cores:
        for part in core.parts:
            inside = np.zeros(found.splits[part.node].shape, dtype=bool)
            inside[tuple(slice(*bound) for bound in part.bounds)] = True
            assert (home[part.node][inside.ravel()] == -1).all()
            home[part.node][inside.ravel()] = core.index
    for core in found.cores:
        taken = dict.fromkeys(("neurons", "axons_in", "axons_out"), 0)
        for name, homes in home.items():
            mine = homes == core.index
            taken["neurons"] += int(mine.sum())
            for c in graph.incoming(name):
                taken["axons_in"] += int(matrices[c][mine].any(axis=0).sum())
            for c, (source, target) in graph.ends.items():
                if source == name:
                    taken["axons_out"] += sum(
                        len(set(home[target][column])) for column in matrices[c][:, mine].T
                    )
        # Blocks of one population on a core count one by one, though they share axons.
        assert all(n <= getattr(core, key) <= most[key] for key, n in taken.items())
        assert core.synapse_bits <= limits.synapse_bits.value


def test_blocks_full_of_synapses_leave_room_for_others():
    make, most = CROWDED["gestures"]
    limits = replace(LOIHI2_LIMITS, **{key: Limit(n, "test") for key, n in most.items()})
    found = map_to_chip(make(), limits)
    mixed = [core for core in found.cores if len({part.node for part in core.parts}) == 2]
    assert 2 * len(mixed) > len(found.cores)
    assert len(found.cores) < sum(len({p.core for p in parts}) for parts in found.parts.values())
    assert len(found.cores) <= 1.5 * found.least_cores
    assert found == map_to_chip(make(), limits)
