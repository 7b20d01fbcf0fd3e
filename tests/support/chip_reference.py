"""What a placed graph takes on the chip, counted synapse by synapse in plain Python.

Slow and independent: shares no code with the mapping, the energy model and the metrics.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np

from biril_nm.hw_graph import Conv, Dense, Sparse

WIDTHS = (1, 2, 3, 4, 5, 6, 8)  # of stored weights
DELAY_BITS, TAG_BITS = 6, 14


def synapses(graph, name):
    """Source neuron -> list of (target neuron, weight, kernel place or None), both flat."""
    node, (source, target) = graph.connections[name], graph.ends[name]
    found = defaultdict(list)
    if isinstance(node, Dense):
        for post, pre in np.ndindex(node.weight.shape):
            found[pre].append((post, int(node.weight[post, pre]), None))
    elif isinstance(node, Sparse):
        matrix = node.weight.tocoo()
        for post, pre, weight in zip(matrix.row, matrix.col, matrix.data):
            found[int(pre)].append((int(post), int(weight), None))
    else:
        pre_shape, post_shape = graph.shape_of(source), graph.shape_of(target)
        out, group_in, *kernel = node.weight.shape
        group_out = out // node.groups
        for c, *at in np.ndindex(pre_shape):
            channels = range(c // group_in * group_out, (c // group_in + 1) * group_out)
            for o, *k in itertools.product(channels, *map(range, kernel)):
                ends = [
                    divmod(i + p - d * j, s)
                    for i, p, d, j, s in zip(at, node.padding, node.dilation, k, node.stride)
                ]
                inside = all(0 <= e < n for (e, _), n in zip(ends, post_shape[1:]))
                if inside and not any(rest for _, rest in ends):
                    post = np.ravel_multi_index((o, *(e for e, _ in ends)), post_shape)
                    pre = np.ravel_multi_index((c, *at), pre_shape)
                    weight = int(node.weight[(o, c % group_in, *k)])
                    found[int(pre)].append((int(post), weight, (o, *k)))
    return found


def homes(graph, mapping, name):
    """(core, block) of each neuron, flat; fails where one is placed twice or not at all."""
    shape = graph.neurons[name].shape
    volume = shape if len(shape) == 3 else (graph.neurons[name].size, 1, 1)
    found = {}
    for block, part in enumerate(mapping.parts[name]):
        for at in itertools.product(*(range(*bound) for bound in part.bounds)):
            index = int(np.ravel_multi_index(at, volume))
            assert index not in found, f"{name}: neuron {index} is placed twice"
            found[index] = (part.core, block)
    assert sorted(found) == list(range(graph.neurons[name].size))
    return found


def list_bits(n, per_synapse, form):
    """Memory of a list of n synapses: blocks with a header, in whole words."""
    bits = 0
    while n > 0:
        block = min(n, form.block_synapses)
        words = math.ceil((block * per_synapse + form.header_bits) / form.word_bits)
        bits, n = bits + words * form.word_bits, n - block
    return bits


def arriving(graph, name, connection, inside, largest, limits):
    """(input axons, synapse bits) of one connection in the block ``inside`` (a set of neurons)."""
    node, form = graph.connections[connection], limits.format
    per = next(w for w in WIDTHS if w >= node.weight_bits) + (DELAY_BITS if node.delay else 0)
    per += TAG_BITS if getattr(node, "rule", None) is not None else 0
    index = next(b for b in form.index_bits if 1 << b >= largest)
    lists = {}
    for pre, targets in synapses(graph, connection).items():
        kept = [target for target in targets if target[0] in inside]
        if kept:
            lists[pre] = kept
    if not isinstance(node, Conv):
        per += index if isinstance(node, Sparse) else 0
        return len(lists), sum(list_bits(len(kept), per, form) for kept in lists.values())
    pixels = math.prod(graph.shape_of(graph.ends[connection][0])[1:])
    axons = len({pre % pixels for pre in lists}) if limits.population_axons else len(lists)
    if limits.kernels_once:
        shape = graph.neurons[name].shape
        channels = {np.unravel_index(post, shape)[0] for post in inside}
        group = node.weight.shape[0] // node.groups
        taps = math.prod(node.weight.shape[2:])
        sizes = [sum(c // group == g for c in channels) * taps for g in range(node.groups)]
        return axons, node.weight.shape[1] * sum(list_bits(n, per, form) for n in sizes)
    kinds = {(pre // pixels, frozenset(t[2] for t in kept)) for pre, kept in lists.items()}
    return axons, sum(list_bits(len(kind), per + index, form) for _, kind in kinds)


def part_demand(graph, mapping, name, block):
    """(neurons, synapse bits, input axons, output axons, neuron groups) of one block."""
    limits = mapping.limits
    places = homes(graph, mapping, name)
    inside = {neuron for neuron, (_, at) in places.items() if at == block}
    sizes = [part.neurons for part in mapping.parts[name]]
    pairs = [arriving(graph, name, c, inside, max(sizes), limits) for c in graph.incoming(name)]
    axons_out = 0
    for connection, (source, target) in graph.ends.items():
        if source == name:
            slots = 1
            if isinstance(graph.connections[connection], Conv) and limits.population_axons:
                channels, *pixels = graph.shape_of(source)
                small = channels <= limits.pop16_atoms and math.prod(pixels) <= limits.pop16_axons
                slots = 1 if small else 2
            there, wires = homes(graph, mapping, target), synapses(graph, connection)
            axons_out += slots * sum(len({there[t][1] for t, *_ in wires[n]}) for n in inside)
    node = graph.neurons[name]
    registers = [np.broadcast_to(r, node.shape).ravel() for r in (node.du, node.dv, node.vth)]
    sets = {tuple(int(r[n]) for r in registers) for n in inside}
    groups = len(sets) if limits.register_tables else 1
    axons_in, bits = (sum(pair[i] for pair in pairs) for i in (0, 1))
    return len(inside), bits, axons_in, axons_out, groups


def operations(graph, connection, events):
    """Per step, (stored, non-zero) synapses that the non-zero events meet. (n_steps, batch, n)."""
    wires = synapses(graph, connection)
    counts = np.zeros((len(events), 2), dtype=int)
    for step, _, neuron in zip(*np.nonzero(events)):
        targets = wires[int(neuron)]
        counts[step] += (len(targets), sum(1 for _, weight, _ in targets if weight))
    return counts


def traffic(graph, mapping, name, events):
    """(messages, hops x, hops y) of the spikes of a population."""
    limits, here = mapping.limits, homes(graph, mapping, name)

    def tile(core):
        chip, local = divmod(core, limits.cores.value)
        row, column = divmod(local // limits.cores_per_tile, limits.mesh_columns)
        return chip * limits.mesh_columns + column, row

    total = np.zeros(3, dtype=int)
    for connection in (c for c, (source, _) in graph.ends.items() if source == name):
        there, wires = homes(graph, mapping, graph.ends[connection][1]), synapses(graph, connection)
        for _, _, neuron in zip(*np.nonzero(events)):
            x, y = tile(here[int(neuron)][0])
            for core, _ in {there[t] for t, *_ in wires[int(neuron)]}:
                to_x, to_y = tile(core)
                total += (1, abs(x - to_x), abs(y - to_y))
    return tuple(int(n) for n in total)
