from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from espalier.errors import ConfigurationError, DataError, TrainingError
from espalier.hubs import sparse_kernels
from espalier.hubs.options import KERNELS
from espalier.hubs.sparse_layers import (
    DenseLayerWarning,
    SparseLayer,
    SparsePerceptron,
    build_perceptron,
    random_pattern,
)
from espalier.hubs.sparse_products import Pattern, build_kernel, choose_kernel

SIZES = (30, 20, 15, 5)


def batch(inputs=30, count=17, classes=5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(inputs, count, generator=generator, dtype=dtype)
    return values, torch.randint(0, classes, (count,), generator=generator)


def in_double(network):
    """The network in double precision, its parameters away from their special first values."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.layers:
        for name, value in layer.parameters.items():
            moved = 0.3 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
            layer.parameters[name] = value.double() + moved
            layer.momenta[name] = torch.zeros_like(layer.parameters[name])
    return network


def srelu(sums, shape):
    left, left_slope, right, right_slope = (row[:, None] for row in shape)
    end = left + right.abs()
    low, high = left + left_slope * (sums - left), end + right_slope * (sums - end)
    return torch.where(sums <= left, low, torch.where(sums >= end, high, sums))


def by_autograd(network, inputs, labels):
    """The loss and gradients of the same network as dense operations of torch."""
    leaves, values = [], inputs
    for layer in network.layers:
        found = {name: p.clone().requires_grad_() for name, p in layer.parameters.items()}
        shape = (layer.pattern.outputs, layer.pattern.inputs)
        places = torch.from_numpy(layer.pattern.positions)
        flat = torch.zeros(shape[0] * shape[1], dtype=inputs.dtype)
        weight = flat.index_put((places,), found["values"]).view(shape)
        values = weight @ values + found["bias"][:, None]
        if layer.activation == "relu":
            values = values.relu()
        elif layer.activation == "srelu":
            values = srelu(values, found["shape"])
        leaves.append(found)
    loss = functional.cross_entropy(values.T, labels)
    loss.backward()
    return float(loss.detach()), leaves


@pytest.mark.parametrize(
    ("activation", "kernel"), list(itertools.product(("relu", "srelu"), KERNELS))
)
def test_gradients_are_those_of_autograd_on_the_stored_weights(activation, kernel):
    network, _ = build_perceptron(SIZES, 3, 0, activation=activation, kernel=kernel)
    in_double(network)
    inputs, labels = batch(dtype=torch.float64)
    loss, slopes = network.loss_and_slopes(network.forward(inputs), labels)
    network.backward(slopes)
    expected, leaves = by_autograd(network, inputs, labels)
    assert loss == pytest.approx(expected, abs=1e-12)
    for layer, found in zip(network.layers, leaves, strict=True):
        for name, leaf in found.items():
            torch.testing.assert_close(layer.gradients[name], leaf.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "srelu"])
def test_dropped_outputs_pass_no_gradient(activation):
    network, _ = build_perceptron((12, 40, 3), None, 0, activation=activation)
    layer = network.layers[0]
    inputs, _ = batch(12, 500)
    noise = np.random.default_rng(0).integers(0, 2**16, (40, 500), np.uint16)
    kept = torch.from_numpy(noise.astype(np.int64)) >= round(0.3 * 2**16)
    whole = layer.forward(inputs)
    outputs = layer.forward(inputs, noise, 0.3)
    torch.testing.assert_close(outputs, torch.where(kept, whole / 0.7, 0))
    assert abs(float(kept.float().mean()) - 0.7) < 0.01
    layer.backward(torch.ones_like(outputs))
    some = layer.gradients["bias"].clone()
    layer.forward(inputs)
    layer.backward((kept / 0.7).contiguous())
    torch.testing.assert_close(some, layer.gradients["bias"])


def test_kernels_give_the_same_training_to_1e_5():
    inputs, labels = batch(count=50)
    ends = {}
    for kernel in KERNELS:
        network, _ = build_perceptron(SIZES, 3, 0, kernel=kernel)
        noise = np.random.default_rng(0)
        for _ in range(30):
            network.train_step(inputs, labels, 0.05, 0.9, 0.3, noise)
        assert [layer.kernel_name for layer in network.layers[:2]] == [kernel] * 2
        ends[kernel] = torch.cat([layer.values for layer in network.layers])
    for kernel in ("csr", "dense"):
        torch.testing.assert_close(ends["compiled"], ends[kernel], rtol=0, atol=1e-5)


def test_threads_leave_every_bit():
    pattern = random_pattern(600, 500, 40, 0, 1)
    assert len(sparse_kernels.row_bounds(pattern.starts, 3)) == 3
    values = torch.randn(pattern.edges)
    inputs, slopes = torch.randn(600, 30), torch.randn(500, 30)
    one, three = (build_kernel("compiled", pattern, threads) for threads in (1, 3))
    assert torch.equal(one.forward(values, inputs), three.forward(values, inputs))
    assert torch.equal(one.gradient(inputs, slopes), three.gradient(inputs, slopes))
    assert torch.equal(one.backward(values, slopes), three.backward(values, slopes))


@settings(max_examples=25)
@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**31), st.floats(0, 1)
)
def test_every_kernel_multiplies_as_the_dense_matrix(inputs, outputs, count, seed, density):
    generator = np.random.default_rng(seed)
    pattern = Pattern(inputs, outputs, np.flatnonzero(generator.random(inputs * outputs) < density))
    values = torch.from_numpy(generator.standard_normal(pattern.edges))
    before = torch.from_numpy(generator.standard_normal((inputs, count)))
    after = torch.from_numpy(generator.standard_normal((outputs, count)))
    matrix = torch.zeros(outputs * inputs, dtype=torch.float64)
    matrix[torch.from_numpy(pattern.positions)] = values
    matrix = matrix.view(outputs, inputs)
    sampled = (after @ before.T).view(-1)[torch.from_numpy(pattern.positions)]
    for name in KERNELS:
        kernel = build_kernel(name, pattern)
        torch.testing.assert_close(kernel.forward(values, before), matrix @ before)
        torch.testing.assert_close(kernel.backward(values, after), matrix.T @ after)
        torch.testing.assert_close(kernel.gradient(before, after), sampled)


def test_a_step_moves_the_stored_weights_only():
    network, _ = build_perceptron(SIZES, 3, 0, kernel="compiled")
    before = [layer.matrix() for layer in network.layers]
    inputs, labels = batch()
    for _ in range(5):
        network.train_step(inputs, labels, 0.1, 0.9)
    for old, layer in zip(before[:-1], network.layers, strict=False):
        new = layer.matrix()
        assert np.array_equal(old.indices, new.indices) and np.array_equal(old.indptr, new.indptr)
        assert np.abs(old.data - new.data).max() > 0
        assert new.shape == (layer.pattern.inputs, layer.pattern.outputs)


def test_momentum_is_that_of_torch():
    network, _ = build_perceptron((6, 3), None, 0, activation="relu")
    dense = torch.nn.Linear(6, 3)
    with torch.no_grad():
        dense.weight.copy_(network.layers[0].values.view(3, 6))
        dense.bias.zero_()
    optimizer = torch.optim.SGD(dense.parameters(), 0.1, momentum=0.9)
    inputs, labels = batch(6, 20, 3)
    for _ in range(4):
        network.train_step(inputs, labels, 0.1, 0.9)
        optimizer.zero_grad()
        functional.cross_entropy(dense(inputs.T), labels).backward()
        optimizer.step()
    torch.testing.assert_close(network.layers[0].values.view(3, 6), dense.weight.detach())


def test_the_first_densities_and_weights_are_as_published():
    sizes = (784, 256, 128, 100, 10)
    network, costs = build_perceptron(sizes, 20, 3, kernel="compiled")
    counts = [layer.pattern.edges for layer in network.layers]
    for count, expected in zip(counts, (20_800, 7_680, 4_560), strict=False):
        assert abs(count - expected) < 5 * expected**0.5
    assert counts[-1] == 1000 and network.layers[-1].pattern.is_full and not any(costs)
    limit = (6 / (784 + 256)) ** 0.5
    assert 0.99 * limit < float(network.layers[0].values.abs().max()) <= limit
    shape = network.layers[0].parameters["shape"]
    assert torch.equal(shape[0], torch.zeros(256)) and torch.equal(shape[3], torch.ones(256))
    assert shape[1].min() >= 0 and shape[1].max() <= 1 < shape[2].max() <= 5
    again, _ = build_perceptron(sizes, 20, 3, kernel="dense", activation="relu")
    assert np.array_equal(again.layers[1].pattern.positions, network.layers[1].pattern.positions)
    drawn = random_pattern(784, 256, 20, 0, 1, "replacement")
    assert abs(drawn.edges - 19_758) < 200


def test_a_measured_choice_names_its_costs():
    name, seconds = choose_kernel(random_pattern(400, 300, 5, 0, 1), 50, repeats=1)
    assert name in KERNELS and set(seconds) == set(KERNELS) and min(seconds.values()) > 0
    assert choose_kernel(Pattern.full(8, 4), 50) == ("dense", {})


@pytest.mark.parametrize("epsilon", [3, None])
def test_a_stored_state_gives_the_same_outputs(epsilon):
    network, _ = build_perceptron(SIZES, epsilon, 0, kernel="compiled")
    arrays = network.state()
    again = SparsePerceptron.of_state(arrays)
    inputs, _ = batch()
    torch.testing.assert_close(again.forward(inputs), network.forward(inputs))


def test_silenced_units_count_as_zero():
    network, _ = build_perceptron((4, 6, 3), None, 0, activation="relu")
    inputs, _ = batch(4, 9)
    removed = [np.zeros(4, bool), np.arange(6) < 2, np.zeros(3, bool)]
    silent = network.forward(inputs, silenced=removed)
    network.layers[1].values.view(3, 6)[:, :2] = 0
    torch.testing.assert_close(silent, network.forward(inputs))


def test_an_epsilon_too_large_makes_a_layer_dense_and_says_so():
    with pytest.warns(DenseLayerWarning, match=r"epsilon 20 makes layer 1 \(10 to 8 units\) dense"):
        pattern = random_pattern(10, 8, 20, 0, 1)
    assert pattern.is_full


def test_bad_input_is_named():
    with pytest.raises(ConfigurationError, match="without a weight; raise it"):
        random_pattern(30, 30, 1e-6, 0, 2)
    with pytest.raises(ConfigurationError, match="epsilon is -1"):
        random_pattern(30, 30, -1, 0, 2)
    with pytest.raises(ConfigurationError, match=r"unknown kernel 'denes'.*Did you mean 'dense'"):
        build_perceptron(SIZES, 3, 0, kernel="denes")
    with pytest.raises(ConfigurationError, match=r"unknown activation 'selu'"):
        build_perceptron(SIZES, 3, 0, activation="selu")
    empty = Pattern(3, 2, np.empty(0, np.int64))
    with pytest.raises(DataError, match="3 to 2 units has no weight"):
        SparseLayer(empty, torch.empty(0), torch.zeros(2), None)
    with pytest.raises(DataError, match="must ascend"):
        Pattern(3, 2, np.array([1, 1]))
    pieces = [build_perceptron(sizes, None, 0)[0].layers[0] for sizes in ((4, 3), (2, 3))]
    with pytest.raises(DataError, match="3 outputs comes before one of 2 inputs"):
        SparsePerceptron(pieces)


def test_divergence_is_a_training_error():
    network, _ = build_perceptron(SIZES, 3, 0, kernel="compiled")
    inputs, labels = batch()
    with pytest.raises(TrainingError, match="lower the learning rate"):
        for _ in range(100):
            network.train_step(inputs, labels, 1e20, 0.9)
    network, _ = build_perceptron(SIZES, 3, 0, kernel="compiled")
    network.layers[1].values[0] = float("nan")
    with pytest.raises(TrainingError, match="weights of layer 2 are not finite"):
        network.weights()
