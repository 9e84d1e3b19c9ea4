from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from espalier.errors import ConfigurationError, DataError
from espalier.sculpting.edge_kernels import shuffled_rows
from espalier.sculpting.networks import Network, initial_network, network_of
from espalier.sculpting.stacked import padded_width
from espalier.sculpting.tasks import Task
from espalier.sculpting.training import Recipe, Streams, Trained, Training, train_networks

INPUTS = np.array(list(product([0, 1], repeat=4)), np.float32)
TARGETS = np.stack(
    [
        INPUTS[:, 0] != INPUTS[:, 1],
        INPUTS[:, 0] == INPUTS[:, 1],
        INPUTS[:, 2] * INPUTS[:, 3],
    ],
    axis=1,
).astype(np.float32)
TASK = Task("xor-and", INPUTS, TARGETS, INPUTS, TARGETS, input_noise=0.1)
ENGINES = ("edges", "stacked")


def thinned(widths: tuple[int, ...], seed: int, share: float, dtype=np.float64) -> Network:
    network = initial_network(widths, seed, dtype)
    return network.keep(np.random.default_rng(seed).random(len(network.edges)) < share)


def plain_torch(
    network: Network, recipe: Recipe, streams: Streams, task: Task, noise_scale: float
) -> tuple[list[np.ndarray], list[np.ndarray], float, int]:
    """The definition, one network alone: autograd, torch.optim.Adam, a loop over batches."""
    masks = [torch.tensor(m) for m in network.masks()]
    layers = []
    for weight, bias in zip(network.weight_matrices(), network.bias_vectors(), strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        linear.weight.data = torch.tensor(weight, dtype=torch.float64)
        linear.bias.data = torch.tensor(bias, dtype=torch.float64)
        layers += [linear, nn.ReLU()]
    model = nn.Sequential(*layers[:-1], nn.Sigmoid())
    linears = [layer for layer in model if isinstance(layer, nn.Linear)]
    x, y, x_validation, y_validation = (
        torch.tensor(a, dtype=torch.float64)
        for a in (task.x_train, task.y_train, task.x_validation, task.y_validation)
    )
    rows = len(x)
    order = shuffled_rows(streams.shuffle_uniforms(recipe.epochs, rows)[None])[0]
    noise = streams.noise(recipe.epochs, rows, x.shape[1]) if noise_scale else None
    optimiser = torch.optim.Adam(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    bce = nn.BCELoss()
    best_loss, best_right, best = np.inf, 0, []
    for epoch in range(recipe.epochs):
        for first in range(0, rows, recipe.batch_size):
            at = order[epoch, first : first + recipe.batch_size]
            batch = x[at]
            if noise is not None:
                there = noise[epoch, first : first + recipe.batch_size]
                batch = batch + noise_scale * torch.tensor(there)
            optimiser.zero_grad()
            bce(model(batch), y[at]).backward()
            for linear, mask in zip(linears, masks, strict=True):
                linear.weight.grad *= mask
                linear.bias.grad *= mask.any(1)
            optimiser.step()
        with torch.no_grad():
            found = model(x_validation)
            right = int(((found > 0.5) == (y_validation > 0.5)).sum())
            if recipe.checkpoint_loss == "mean":
                loss = float(bce(found, y_validation))
            else:
                parts = zip(
                    found.split(recipe.batch_size),
                    y_validation.split(recipe.batch_size),
                    strict=True,
                )
                losses = [float(bce(a, b)) for a, b in parts]
                loss = sum(losses) / (len(losses) - 1) if len(losses) > 1 else np.inf
        if (loss <= best_loss and right >= best_right) or right > best_right:
            best_loss, best_right = loss, right
            best = [p.detach().numpy().copy() for p in model.parameters()]
    return best[0::2], best[1::2], best_loss, best_right


def train_one(network: Network, recipe: Recipe, engine: str, task: Task = TASK, **options):
    return train_networks(
        [Training(network, recipe, Streams(3, "one"))], task, engine=engine, **options
    )[0]


def same(first: Trained, second: Trained) -> bool:
    return (
        np.array_equal(first.network.weights, second.network.weights)
        and np.array_equal(first.network.biases, second.network.biases)
        and first.loss == second.loss
        and first.right == second.right
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("widths", "share", "recipe"),
    [
        ((4, 24, 24, 3), 1.0, Recipe(0.05, 8, 12)),
        ((4, 12, 10, 7, 3), 0.5, Recipe(0.1, 5, 6)),  # the last batch is short
        ((4, 9, 9, 3), 0.4, Recipe(0.05, 16, 10, checkpoint_loss="published")),
        ((4, 6, 6, 3), 0.6, Recipe(0.05, 4, 10, checkpoint_loss="published")),
        ((4, 6, 3), 0.7, Recipe(0.02, 100, 9, weight_decay=0.01)),
        ((4, 3), 1.0, Recipe(0.05, 3, 5, input_noise=0.0)),
    ],
)
def test_engines_follow_plain_torch(widths, share, recipe, engine):
    network = thinned(widths, 5, share)
    noise = TASK.input_noise if recipe.input_noise is None else recipe.input_noise
    weights, biases, loss, right = plain_torch(network, recipe, Streams(3, "one"), TASK, noise)
    trained = train_one(network, recipe, engine)
    for ours, theirs in zip(trained.network.weight_matrices(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    for ours, theirs in zip(trained.network.bias_vectors(), biases, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    assert trained.right == right
    assert trained.loss == pytest.approx(loss, abs=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_validation_data_choose_the_checkpoint(engine):
    rng = np.random.default_rng(0)
    x = rng.random((37, 6)).astype(np.float32)
    x_validation = rng.random((1100, 6)).astype(np.float32)
    y, y_validation = ((part[:, :2] > 0.5).astype(np.float32) for part in (x, x_validation))
    task = Task("split", x, y, x_validation, y_validation)
    network, recipe = thinned((6, 8, 2), 1, 0.9), Recipe(0.05, 16, 4)
    weights, _, loss, right = plain_torch(network, recipe, Streams(3, "one"), task, 0.0)
    trained = train_one(network, recipe, engine, task)
    np.testing.assert_allclose(trained.network.weight_matrices()[0], weights[0], atol=1e-10)
    assert (trained.right, trained.bits) == (right, 2200)
    assert trained.loss == pytest.approx(loss, abs=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["mean_of_absolute", "absolute_of_mean"])
def test_unit_scores_against_autograd(engine, kind):
    network = thinned((4, 7, 6, 3), 2, 0.5)
    trained = train_one(network, Recipe(0.05, 8, 5), engine, unit_scores=kind)
    weights = [torch.tensor(w) for w in trained.network.weight_matrices()]
    biases = [torch.tensor(b) for b in trained.network.bias_vectors()]
    products = []
    for row, wanted in zip(INPUTS, TARGETS, strict=True):
        values, hidden = torch.tensor(row, dtype=torch.float64), []
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            values = weight @ values + bias
            if layer < 2:
                values = values.relu().requires_grad_()
                values.retain_grad()
                hidden.append(values)
        wanted = torch.tensor(wanted, dtype=torch.float64)
        nn.functional.binary_cross_entropy(values.sigmoid(), wanted).backward()
        products.append(torch.cat([a.grad * a.detach() for a in hidden]).numpy())
    expected = (
        np.abs(products).mean(0) if kind == "mean_of_absolute" else np.abs(np.mean(products, 0))
    )
    np.testing.assert_allclose(trained.unit_scores, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_company_and_threads_change_no_bit(dtype):
    networks = [thinned((4, 13, 11, 3), seed, 0.1 * (1 + seed % 9), dtype) for seed in range(12)]
    recipe = Recipe(0.05, 8, 6)

    def train(chosen: list[int], **options) -> dict[int, Trained]:
        trainings = [Training(networks[i], recipe, Streams(i, "company")) for i in chosen]
        return dict(
            zip(
                chosen,
                train_networks(trainings, TASK, "mean_of_absolute", "edges", **options),
                strict=True,
            )
        )

    together = train(list(range(12)))
    for index in range(12):
        alone = train([index])[index]
        assert same(alone, together[index])
        assert np.array_equal(alone.unit_scores, together[index].unit_scores)
    for other in (train(list(range(12))[::-1], threads=3), train(list(range(12)), max_bytes=1)):
        assert all(same(other[i], together[i]) for i in range(12))


def test_stacked_engine_does_not_depend_on_company():
    networks = [thinned((4, 13, 11, 3), seed, 0.1 * (1 + seed % 9)) for seed in range(8)]
    trainings = [
        lambda i=i, n=n: Training(n, Recipe(0.05, 8, 6), Streams(i, "company"))
        for i, n in enumerate(networks)
    ]
    together = train_networks([make() for make in trainings], TASK, engine="stacked")
    chunked = train_networks([make() for make in trainings], TASK, engine="stacked", max_bytes=1)
    for make, first, second in zip(trainings, together, chunked, strict=True):
        alone = train_networks([make()], TASK, engine="stacked")[0]
        for other in (first, second):
            np.testing.assert_allclose(
                alone.network.weights, other.network.weights, rtol=0, atol=1e-12
            )
            assert alone.right == other.right


def test_single_precision_engines_agree():
    networks = [thinned((4, 16, 16, 3), seed, 0.6, np.float32) for seed in range(10)]
    results = [
        train_networks(
            [Training(n, Recipe(), Streams(i, "f32")) for i, n in enumerate(networks)],
            TASK,
            engine=engine,
        )
        for engine in ENGINES
    ]
    for first, second in zip(*results, strict=True):
        np.testing.assert_allclose(first.network.weights, second.network.weights, atol=2e-5)
        assert first.right == second.right


@pytest.mark.parametrize("engine", ENGINES)
def test_unfed_units_keep_bias_zero_and_unread_weights_only_decay(engine):
    network = initial_network((4, 3, 3), 0, np.float64)
    source, target = network.endpoints()
    # Hidden unit 4 loses its inputs, unit 5 its outputs, unit 6 everything.
    kept = ~((target == 4) | (source == 5) | (target == 6) | (source == 6))
    pruned = network.keep(kept)
    trained = train_one(pruned, Recipe(0.01, 8, 2), engine).network
    assert trained.biases[0] == trained.biases[2] == 0
    _, targets = trained.endpoints()
    unread = targets == 5
    assert (np.abs(trained.weights[unread]) < np.abs(pruned.weights[unread])).all()
    assert np.array_equal(trained.edges, pruned.edges)


def test_a_layer_without_edges_gives_constant_outputs():
    network = initial_network((4, 3, 3), 0)
    _, target = network.endpoints()
    for engine in ENGINES:
        trained = train_one(network.keep(target > 6), Recipe(0.05, 8, 3), engine)
        assert np.isfinite(trained.loss)
        assert trained.right <= trained.bits
        empty = train_one(network.keep(target < 0), Recipe(0.05, 8, 3), engine)
        assert empty.loss == pytest.approx(np.log(2))
        assert not empty.network.biases.any()


def test_networks_and_matrices_are_the_same():
    network = thinned((4, 6, 5, 3), 3, 0.4)
    again = network_of(network.masks(), network.weight_matrices(), network.bias_vectors())
    assert np.array_equal(again.edges, network.edges)
    assert np.array_equal(again.weights, network.weights)
    assert network.density == sum(m.sum() for m in network.masks()) / (24 + 30 + 15)
    masks = network.masks()
    with pytest.raises(DataError, match="layer 1"):
        network_of(
            [masks[0], masks[1].T, masks[2]], network.weight_matrices(), network.bias_vectors()
        )


def test_live_size_counts_the_dense_network_among_hidden_units_with_edges():
    network = initial_network((5, 4, 3, 2), 0)
    assert network.live_size == network.total_edges
    masks = network.masks()
    masks[0][1:3] = False  # Two units of the first hidden layer lose all their edges ...
    masks[1][:, 1:3] = False
    masks[1][0, 0] = False  # ... and one edge goes by itself, as does an input.
    masks[0][:, 4] = False
    kept = network.keep(np.concatenate([mask.ravel() for mask in masks]))
    assert kept.live_size == 5 * 2 + 2 * 3 + 3 * 2


def test_auto_takes_matrices_where_units_are_pruned_and_edges_where_edges_are():
    rng = np.random.default_rng(0)
    x, y = rng.random((256, 40), np.float32), rng.integers(0, 2, (256, 3)).astype(np.float32)
    task = Task("random", x, y, x, y)
    recipe = Recipe(learning_rate=0.01, batch_size=256, epochs=1)
    whole = initial_network((40, 200, 3), 0)
    first_units = np.concatenate(
        [np.repeat(np.arange(200) < 60, 40), np.tile(np.arange(200) < 60, 3)]
    )
    narrow = whole.keep(first_units)
    thin = whole.keep(rng.random(whole.total_edges) < 0.04)
    for network, expected in ((narrow, "stacked"), (thin, "edges")):
        by_auto, by_name = (
            train_networks([Training(network, recipe, Streams(0))], task, engine=engine)[0]
            for engine in ("auto", expected)
        )
        other = "edges" if expected == "stacked" else "stacked"
        by_other = train_networks([Training(network, recipe, Streams(0))], task, engine=other)[0]
        assert np.array_equal(by_auto.network.weights, by_name.network.weights)
        assert not np.array_equal(by_auto.network.weights, by_other.network.weights)


def test_initial_weights_are_kaiming_normal_and_depend_on_the_seed_alone():
    network = initial_network((50, 400, 8), 0)
    first, second = network.weight_matrices()
    assert first.std() == pytest.approx(np.sqrt(2 / 50), rel=0.02)
    assert second.std() == pytest.approx(np.sqrt(2 / 400), rel=0.05)
    assert not network.biases.any()
    assert np.array_equal(network.weights, initial_network((50, 400, 8), 0).weights)
    assert not np.array_equal(network.weights, initial_network((50, 400, 8), 1).weights)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_padded_width_holds_the_live_units(live, width):
    live = min(live, width)
    padded = padded_width(live, width)
    assert live <= padded <= max(width, live)
    assert padded <= max(2, 1.5 * live)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10))
def test_shuffles_are_permutations(rows, seed):
    order = shuffled_rows(np.random.default_rng(seed).random((2, 3, rows)))
    assert (np.sort(order, -1) == np.arange(rows)).all()


def test_refused_arguments():
    network, recipe = initial_network((4, 3, 3), 0), Recipe()
    with pytest.raises(ConfigurationError, match="engine"):
        train_one(network, recipe, "edge")
    with pytest.raises(ConfigurationError, match="CPU"):
        train_one(network, recipe, "edges", device="cuda")
    with pytest.raises(ConfigurationError, match="unit score"):
        train_one(network, recipe, "edges", unit_scores="mean")
    with pytest.raises(DataError, match="5 inputs"):
        train_one(initial_network((5, 3, 3), 0), recipe, "edges")
    for bad in ((4, 0, 3), (4,), (4, 2.5, 3)):
        with pytest.raises(ConfigurationError, match="widths"):
            initial_network(bad, 0)
    for bad in (
        {"batch_size": 0},
        {"epochs": 0},
        {"learning_rate": 0},
        {"weight_decay": -1},
        {"accuracy_threshold": 99},
        {"checkpoint_loss": "median"},
    ):
        with pytest.raises(ConfigurationError, match=next(iter(bad))):
            Recipe(**bad)
