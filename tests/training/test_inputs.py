from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_problem import corners, network

from espalier.data import Normalisation, normalised_batches
from espalier.errors import DataError
from espalier.training import (
    Recipe,
    evaluate,
    read_checkpoint,
    train,
)
from espalier.training.batches import TrainingImages


def colours(count: int = 40) -> np.ndarray:
    generator = np.random.default_rng(0)
    channels = [generator.integers(0, top, (count, 6, 7), np.uint8) for top in (256, 120, 40)]
    return np.stack(channels, axis=-1)


def test_standard_is_the_mean_and_deviation_of_every_channel() -> None:
    images = colours()
    normalisation = Normalisation.named("standard", images)
    scaled = images.astype(np.float64) / 255
    np.testing.assert_allclose(normalisation.mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(normalisation.deviation, scaled.std((0, 1, 2)), rtol=1e-12)
    inputs = torch.cat([x for x, _ in normalised_batches(images, normalisation=normalisation)])
    assert inputs.shape == (40, 3, 6, 7)
    expected = (scaled - normalisation.mean) / normalisation.deviation
    torch.testing.assert_close(inputs, torch.from_numpy(expected).permute(0, 3, 1, 2).float())
    assert float(inputs.mean()) == pytest.approx(0, abs=1e-5)
    unit = torch.from_numpy(scaled).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(normalisation.of_unit_range(unit), inputs)


def test_default_is_symmetric_and_leaves_no_trace() -> None:
    normalisation = Normalisation.named("symmetric", colours())
    assert normalisation == Normalisation()
    assert normalisation.metadata() == {}
    assert Normalisation.of_metadata({"epoch": "3"}) == normalisation
    levels = torch.arange(256, dtype=torch.uint8).reshape(-1, 1)
    expected = levels.to(torch.float32).mul_(2 / 255).sub_(1)
    assert torch.equal(normalisation.of_pixels(levels), expected)


def test_a_checkpoint_says_how_to_feed_it(tmp_path: Path) -> None:
    images, labels = corners()
    path = tmp_path / "c.safetensors"
    recipe = Recipe(4, 16, 3e-3, normalisation="standard")
    history = train(
        network(), images, labels, recipe, 0, validation=corners(60, 1),
        checkpoint_paths={path: 4}, state_directory=tmp_path / "s", log=print,
    )  # fmt: skip
    model = network(5)
    normalisation = Normalisation.of_metadata(read_checkpoint(path, model))
    assert normalisation == history.normalisation == Normalisation.named("standard", images)
    accuracy = evaluate(model, *corners(60, 1), normalisation=normalisation)
    assert accuracy == history.rows[-1]["validation_accuracy"]
    with pytest.raises(DataError, match="normalisation is not readable"):
        Normalisation.of_metadata({"normalisation": "{"})


def test_a_given_normalisation_is_used() -> None:
    images, labels = corners()
    given = Normalisation((0.2,), (0.1,))
    history = train(network(), images, labels, Recipe(1, 16), 0, normalisation=given, log=print)
    assert history.normalisation == given


def test_normalisations_that_cannot_be() -> None:
    flat = np.full((4, 5, 5, 1), 7, np.uint8)
    with pytest.raises(DataError, match="is a channel constant"):
        Normalisation.named("standard", flat)
    with pytest.raises(DataError, match="2 means and 1 deviations"):
        Normalisation((0.1, 0.2), (0.5,))
    with pytest.raises(DataError, match="has 3 channels, the images 1"):
        normalisation = Normalisation.named("standard", colours())
        list(normalised_batches(flat, normalisation=normalisation))


@pytest.mark.parametrize("augmentation", ["none", "thesis", "crop", "crop_flip"])
def test_batches_are_pure_functions_of_seed_and_epoch(augmentation: str) -> None:
    images = torch.from_numpy(colours(21))
    targets = torch.arange(21)
    recipe = Recipe(3, 5, augmentation=augmentation, crop_padding=2, normalisation="standard")
    normalisation = Normalisation.named("standard", images)
    data = TrainingImages(images, targets, recipe, normalisation, torch.device("cpu"))

    def epoch(seed: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        batches = list(data.batches(seed, number))
        assert [len(labels) for _, labels in batches] == [5, 5, 5, 5]  # the last image is alone
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in batches)
        return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])

    first, again, later, other = epoch(0, 0), epoch(0, 0), epoch(0, 1), epoch(1, 0)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], later[1])
    assert not torch.equal(first[1], other[1])
    plain = torch.cat([x for x, _ in normalised_batches(images, normalisation=normalisation)])
    assert torch.equal(first[0], plain[first[1]]) == (augmentation == "none")
