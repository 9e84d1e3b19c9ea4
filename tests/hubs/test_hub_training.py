from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.ndimage
import torch

from espalier.data.prepare import prepare
from espalier.errors import ConfigurationError, DataError, TrainingError
from espalier.hubs import laplacian_centrality
from espalier.hubs.inputs import Standardisation, augment, feature_images, features
from espalier.hubs.methods import Changes, NothingRemovedWarning
from espalier.hubs.options import METHODS, HubRecipe, MethodOptions
from espalier.hubs.training import first_network, train_hubs

SIZES = (64, 40, 20, 10)
RECIPE = HubRecipe(epochs=3, batch_size=20, epsilon=6, kernel="compiled")


@pytest.fixture(scope="module")
def digits():
    images = prepare("digits")
    train = images.x_train[:600], images.y_train[:600]
    validation = images.x_train[600:800], images.y_train[600:800]
    return train, validation, (images.x_test, images.y_test)


def trained(digits, options=None, recipe=RECIPE, seed=0, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingRemovedWarning)
        return train_hubs(
            SIZES,
            *digits,
            recipe,
            options or MethodOptions(),
            seed,
            log=lambda line: None,
            **more,
        )


def weights_of(network):
    return torch.cat([layer.values for layer in network.layers])


def test_a_run_learns_and_its_history_adds_up(digits):
    recipe = HubRecipe(epochs=12, batch_size=20, epsilon=6, learning_rate=0.02)
    network, history = trained(digits, recipe=recipe, snapshot_every=5)
    assert history.last_accuracies(count=3).mean() > 0.85
    assert history.last_accuracies("validation").shape == (10,)
    assert [record["epoch"] for record in history.epochs] == list(range(13))
    assert history.epochs[0]["train_loss"] is None and "changes" not in history.epochs[0]
    assert "changes" not in history.epochs[12], "what grew last would not be trained"
    connections = [record["connections"] for record in history.epochs]
    assert all(counts == connections[0] for counts in connections)
    assert sorted(history.snapshots) == [0, 5, 10, 12]
    assert np.bincount(history.layers).tolist() == list(SIZES)
    last = np.concatenate(laplacian_centrality(network.weights(), preset="paper"))
    assert np.array_equal(history.snapshots[12], last)
    assert history.epochs[12]["centrality_sd"] == pytest.approx(last.std())


@pytest.mark.parametrize("method", ["set", "set_pure", "dense"])
def test_one_seed_gives_one_result_whatever_the_threads(digits, method):
    options = MethodOptions(method=method)
    first, one = trained(digits, options)
    second, two = trained(digits, options, threads=2)
    assert torch.equal(weights_of(first), weights_of(second))
    assert one.epochs == two.epochs
    other, _ = trained(digits, options, seed=1)
    assert weights_of(first).shape != weights_of(other).shape or not torch.equal(
        weights_of(first), weights_of(other)
    )


def test_methods_of_one_seed_start_equal():
    options = [
        MethodOptions(method=name, k=2.0) if name == "censet" else MethodOptions(method=name)
        for name in ("set", "static", "censet", "accset")
    ]
    networks = [first_network(SIZES, RECIPE, option, 5)[0] for option in options]
    for network in networks[1:]:
        for one, two in zip(networks[0].layers, network.layers, strict=True):
            assert np.array_equal(one.pattern.positions, two.pattern.positions)
            assert torch.equal(one.values, two.values)


def test_random_removal_repeats_the_counts_of_its_reference(digits):
    _, censet = trained(digits, MethodOptions(method="censet", k=1.0, preset="cenbench"))
    changes = [Changes(**e["changes"]) for e in censet.epochs if "changes" in e]
    assert sum(sum(change.edges) for change in changes)
    control = MethodOptions(method="random", reference="censet")
    _, random = trained(digits, control, reference=changes)
    repeated = [Changes(**e["changes"]) for e in random.epochs if "changes" in e]
    assert [change.edges for change in repeated] == [change.edges for change in changes]
    assert random.epochs[1]["test_accuracy"] == censet.epochs[1]["test_accuracy"]


def test_a_threshold_that_removes_nothing_is_static_training(digits):
    censet, history = trained(digits, MethodOptions(method="censet", k=40.0))
    assert "removes no unit" in history.notes[0]
    static, other = trained(digits, MethodOptions(method="static"))
    same = [censet.layers[0].pattern.positions, static.layers[0].pattern.positions]
    assert np.array_equal(*same)
    # Momenta start anew after every epoch of a method that removes, as in the published code.
    assert abs(history.epochs[3]["train_loss"] - other.epochs[3]["train_loss"]) < 0.2


@pytest.mark.parametrize("method", ["katz", "strength", "no_readding", "readding_while_sd_falls"])
def test_methods_by_centrality_train_with_relu_too(digits, method):
    assert method in METHODS
    recipe = HubRecipe(epochs=2, batch_size=20, epsilon=6, activation="relu", kernel="compiled")
    network, history = trained(digits, MethodOptions(method=method, k=1.5), recipe)
    assert history.epochs[2]["train_loss"] < history.epochs[1]["train_loss"]
    assert history.last_accuracies(count=1)[0] > history.epochs[0]["test_accuracy"]
    assert "shape" not in network.layers[0].parameters


def test_standardisation_is_that_of_numpy(digits):
    pixels = feature_images(digits[0][0])
    standard = Standardisation.of(pixels, chunk=100)
    deviation = pixels.astype(np.float64).std(0)
    assert (deviation == 0).any(), "digits have pixels that never change"
    np.testing.assert_allclose(
        standard.deviation.numpy(), np.where(deviation > 0, deviation, 1), rtol=1e-5
    )
    flat = features(standard.apply(torch.from_numpy(pixels)))
    assert flat.shape == (64, 600) and flat.is_contiguous()
    assert flat.mean(1).abs().max() < 1e-5
    np.testing.assert_array_equal(
        flat[:, 3].reshape(1, 8, 8), standard.apply(torch.from_numpy(pixels[3:4]))[0]
    )


def test_augmentation_is_one_linear_interpolation():
    images = torch.rand(4, 2, 12, 9, generator=torch.Generator().manual_seed(0))
    moved = augment(images, torch.Generator().manual_seed(5))
    drawn = torch.rand(4, 4, generator=torch.Generator().manual_seed(5)).double().numpy()
    down, across = np.mgrid[:12, :9].astype(float)
    for index in range(4):
        angle = np.radians(10 * (2 * drawn[0, index] - 1))
        x, y = across - 4, down - 5.5
        left = np.cos(angle) * x * (-1 if drawn[3, index] < 0.5 else 1) - np.sin(angle) * y
        top = np.sin(angle) * x * (-1 if drawn[3, index] < 0.5 else 1) + np.cos(angle) * y
        left += 4 + 0.1 * 9 * (2 * drawn[2, index] - 1)
        top += 5.5 + 0.1 * 12 * (2 * drawn[1, index] - 1)
        for channel in range(2):
            expected = scipy.ndimage.map_coordinates(
                images[index, channel].double().numpy(), [top, left], order=1, mode="nearest"
            )
            np.testing.assert_allclose(moved[index, channel], expected, atol=1e-5)


def test_augmentation_changes_training_only(digits):
    recipe = HubRecipe(epochs=2, batch_size=20, epsilon=6, augmentation=True, kernel="compiled")
    plain = HubRecipe(epochs=2, batch_size=20, epsilon=6, kernel="compiled")
    one, two = (trained(digits, recipe=r)[1].epochs for r in (recipe, plain))
    assert one[0] == two[0] and one[1]["train_loss"] > two[1]["train_loss"]


def test_bad_input_is_named(digits):
    (images, labels), validation, test = digits
    with pytest.raises(DataError, match=r"train labels go from 3 to 12.*has 10 outputs"):
        trained(((images, labels + 3), validation, test))
    with pytest.raises(DataError, match="train images have 64 values, but the network has 65"):
        train_hubs((65, 10), (images, labels), None, test, RECIPE, MethodOptions(), 0)
    with pytest.raises(DataError, match="600 training images are fewer than a batch of 601"):
        trained(digits, recipe=HubRecipe(batch_size=601))
    with pytest.raises(DataError, match="expected uint8"):
        trained(((images.astype(np.float32), labels), validation, test))
    with pytest.raises(ConfigurationError, match="no validation images"):
        trained((digits[0], None, test), watched="validation")
    with pytest.raises(ConfigurationError, match=r"dropout is 1\.0"):
        HubRecipe(dropout=1.0)
    with pytest.raises(ConfigurationError, match="Did you mean 'srelu'"):
        HubRecipe(activation="sreluu")


def test_divergence_says_where(digits):
    recipe = HubRecipe(epochs=2, batch_size=20, learning_rate=1e12, epsilon=6)
    with pytest.raises(TrainingError, match=r"epoch 1, update \d+ of 30: the loss is not finite"):
        trained(digits, recipe=recipe)
