"""Slow reference of a QuantizedNet: one population and step at a time, in float64 with gradients of torch.

Values are the chip's integers, from Python's arithmetic on int64; gradients are those of the equations of
``biril_nm/training/integers``, in which every rounding, wrap and clip of a state is an identity.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from biril_nm.hw_graph import Conv, Sparse
from biril_nm.loihi import ResetMode
from biril_nm.loihi.fixed_point import prepare_weights
from biril_nm.loihi.integers import clip, decay, to_int32, wrap
from biril_nm.training.integers.straight import BESIDE


def straight(x, value):
    """The integers ``value`` with the gradient of ``x``."""
    return x + (value.double() - x).detach()


class _Spikes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, spikes, slope):
        ctx.save_for_backward(x)
        ctx.slope = slope
        return spikes.double()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.slope(ctx.saved_tensors[0]), None, None


class Reference:
    """One pass of a net on inputs by name, with the slope of the surrogate.

    Attributes:
        latents: id of each parameter -> its double, which takes gradients.
        scores: as ``net(x).scores``.
        recorded: population -> variable -> integers of all steps.
    """

    def __init__(self, net, given, slope):
        self.net, self.given, self.slope = net, given, slope
        self.latents = {id(p): p.detach().double().requires_grad_(True) for p in net.parameters()}
        self.real = net.graph()
        self.registers = {name: self._registers(name) for name in self.real.neurons}
        self.weights = {name: self._weights(name) for name in self.real.connections}
        n_steps, batch = next(iter(given.values())).shape[:2]
        neurons = self.real.neurons.items()
        self.sent = {name: [] for name, _ in neurons}
        self.recorded = {name: {"s": [], "u": [], "v": []} for name, _ in neurons}
        zero = {name: torch.zeros(batch, *node.shape).double() for name, node in neurons}
        self.u, self.v = dict(zero), dict(zero)
        for t in range(n_steps):
            for name in self.real.timing.order:
                self._step(name, t)
        last = [*net.neurons][-1]
        membrane = (self.v[last] / self.registers[last][2]).flatten(1)
        count = torch.stack(self.sent[last]).flatten(2).sum(0)
        self.scores = membrane if net.decision == "membrane" else count + membrane

    def _registers(self, name):
        module, node = self.net.population(name), self.real.neurons[name]
        keep_u, keep_v, bias, theta = (
            torch.as_tensor(np.array(np.broadcast_to(x, node.shape)))
            for x in node.compartment.prepare(node.registers)
        )
        whole = bias, theta
        bias, theta = bias.double(), theta.double()
        if module.trained:
            scale = self.latents[id(module.log_scale)].exp()
            drive = self.latents[id(module.drive)]
            bias = straight((64 * scale * drive).expand(node.shape), bias)
            wanted = 64 * scale * module.threshold.double()
            theta = straight(wanted.expand(node.shape), theta)
        return keep_u, keep_v, theta, bias, *whole

    def _weights(self, name):
        module, node = self.net.connection(name), self.real.connections[name]
        stored = node.weight.data if isinstance(node, Sparse) else node.weight
        if not isinstance(node, Conv):
            stored = prepare_weights(stored, node.weight_bits, node.sign_mode)
        stored = torch.as_tensor(np.array(stored)).double()
        if module.weight is None:
            return stored
        target = self.real.ends[name][1]
        scale = self.latents[id(self.net.population(target).log_scale)].exp()
        rows = scale.reshape(-1, 1, 1, 1)
        if not isinstance(node, Conv):
            rows = scale.expand(self.real.shape_of(target)).reshape(-1)
            rows = rows[module.places[0]] if isinstance(node, Sparse) else rows[:, None]
        high, wide = module.pool
        unit = module.payload * high * wide * 2.0**node.weight_exp * module.step
        x = self.latents[id(module.weight)] * rows / unit
        outside = (x < module.low - BESIDE) | (x > module.high + BESIDE)
        x = torch.where(outside, x.detach(), x) * module.step
        if module.pool != (1, 1):
            x = self._repeated(x, module)
        return straight(x, stored)

    def _repeated(self, x, module):
        high, wide = module.pool
        if x.ndim == 4:
            return x.repeat_interleave(high, 2).repeat_interleave(wide, 3)
        channels, rows, columns = module.source_shape
        x = x.reshape(len(x), channels, rows // high, columns // wide)
        x = x.repeat_interleave(high, 2).repeat_interleave(wide, 3)
        rest = (0, columns - x.shape[3], 0, rows - x.shape[2])
        return functional.pad(x, rest).reshape(len(x), -1)

    def _arrives(self, name, spikes):
        node, weight = self.real.connections[name], self.weights[name]
        shape = self.real.shape_of(self.real.ends[name][1])
        if isinstance(node, Conv):
            geometry = node.stride, node.padding, node.dilation, node.groups
            sums = functional.conv2d(spikes, weight, None, *geometry)
        else:
            if isinstance(node, Sparse):
                places = tuple(self.net.connection(name).places)
                weight = torch.zeros(node.weight.shape).double().index_put(places, weight)
            sums = spikes.flatten(1) @ weight.T
        sums, exponent = sums.reshape(len(spikes), *shape), node.weight_exp
        value = sums.detach().round().long()
        if isinstance(node, Conv):
            half = 1 << 23
            value = ((value << exponent) + half & 2 * half - 1) - half
        else:
            value = to_int32(value)
            value = to_int32(value << exponent) if exponent >= 0 else value >> -exponent
        return straight(sums * 2.0**exponent, value)

    def _step(self, name, t):
        a = torch.zeros_like(self.v[name])
        for link in self.real.incoming(name):
            source, then = self.real.ends[link][0], t - self.real.timing.slack[link]
            if then >= 0:
                sent = self.given[source] if source in self.given else self.sent[source]
                a = a + self._arrives(link, torch.as_tensor(np.array(sent[then])).double()
                                      if source in self.given else sent[then])  # fmt: skip
        keep_u, keep_v, theta, bias, bias_now, top = self.registers[name]
        reset = self.real.neurons[name].compartment.reset
        zero, fall = reset.mode is ResetMode.ZERO, reset.mode is ResetMode.SUBTRACT
        whole = [x.detach().round().long() for x in (a, self.u[name], self.v[name])]
        above = (whole[2] > top).long()
        late = above * reset.delayed

        u_now = wrap(to_int32(to_int32(decay(whole[1], keep_u)) + to_int32(whole[0] << 6)))
        u = straight(self.u[name] * keep_u / 4096 + 64 * a, u_now)
        stays = 1 - late * (zero and not reset.loses_input)
        drive_now = bias_now - late * top * fall
        v_now = clip(to_int32(to_int32(decay(whole[2] * stays, keep_v) + u_now) + drive_now))
        y = self.v[name] * stays * keep_v / 4096 + u + bias - late * theta * fall
        y, v_now = straight(y, v_now), v_now * (1 - late * reset.loses_input)
        y = y * (1 - late * reset.loses_input)
        guard = above * reset.guarded
        fired = (v_now - guard * top > top).long()
        spikes = _Spikes.apply((y - guard * theta) / theta - 1, fired, self.slope)
        if not reset.delayed:
            y = y * (1 - fired) if zero else y - fired * theta if fall else y
        self.u[name], self.v[name] = u, y
        self.sent[name].append(spikes)
        for key, value in zip("suv", (fired, u_now, y.detach().round().long())):
            self.recorded[name][key].append(value.numpy())
