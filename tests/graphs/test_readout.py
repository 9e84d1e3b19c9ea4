from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from espalier.errors import DataError
from espalier.files import read_npz, write_npz
from espalier.graphs.readout import read_readout, readout, write_readout


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 5),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(5, 3),
    )


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(40, 1, 4, 4, generator=generator), torch.arange(40) % 3


def batches(data):
    return zip(data[0].split(7), data[1].split(7), strict=True)


def test_equals_by_hand(model, data):
    found = readout(model, batches(data), 3)
    model.eval()
    with torch.no_grad():
        features = model[:-1](data[0]).double().numpy()
        predicted = model(data[0]).argmax(1).numpy()
    labels = data[1].numpy()
    confusion = np.zeros((3, 3), int)
    for true, guess in zip(labels, predicted, strict=True):
        confusion[true, guess] += 1
    means = [features[labels == k].mean(axis=0) for k in range(3)]
    assert np.array_equal(found["confusion"], confusion)
    assert found["confusion"].dtype == np.int64
    np.testing.assert_allclose(found["class_means"], means, rtol=1e-6)
    assert np.array_equal(found["output_weights"], model[-1].weight.detach().double().numpy())
    assert {v.dtype for k, v in found.items() if k != "confusion"} == {np.dtype(np.float64)}


def test_mode_and_hooks_are_restored(model, data):
    model.train()
    first, second = readout(model, batches(data), 3), readout(model, batches(data), 3)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_last_layer_by_execution(data):
    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.output = nn.Linear(4, 3)
            self.first = nn.Linear(16, 4)

        def forward(self, x):
            return self.output(self.first(x.flatten(1)))

    network = Swapped()
    found = readout(network, batches(data), 3)
    assert found["output_weights"].shape == (3, 4)


def test_round_trip(model, data, tmp_path):
    found = readout(model, batches(data), 3)
    path = tmp_path / "readout.npz"
    write_readout(path, found, ["a", "b", "ü"], {"seed": 0})
    again = read_readout(path)
    assert again.pop("class_names").tolist() == ["a", "b", "ü"]
    assert all(np.array_equal(again[name], found[name]) for name in found)
    assert read_npz(path)[1] == {"seed": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confusion": np.zeros((2, 2))}, r"confusion has shape \(2, 2\).*\(3, 3\)"),
        ({"class_means": np.zeros((3, 4))}, r"class_means has shape \(3, 4\).*\(3, 5\)"),
        ({"output_weights": np.zeros(5)}, r"output_weights has shape \(5,\)"),
        ({"class_names": None}, "lacks class_names"),
    ],
)
def test_damaged_file(model, data, tmp_path, change, message):
    path = tmp_path / "readout.npz"
    write_readout(path, readout(model, batches(data), 3), "abc")
    arrays = {k: v for k, v in (read_npz(path)[0] | change).items() if v is not None}
    write_npz(path, arrays)
    with pytest.raises(DataError, match=message) as raised:
        read_readout(path)
    assert str(path) in str(raised.value)


def test_class_without_images(model, data):
    with pytest.raises(DataError, match=r"classes \[2\] have no image"):
        readout(model, [(data[0], data[1] % 2)], 3)


def test_label_outside_the_classes(model, data):
    with pytest.raises(DataError, match="labels run from 0 to 7, but there are 3 classes"):
        readout(model, [(data[0][:8], torch.arange(8))], 3)


def test_wrong_number_of_classes(model, data):
    with pytest.raises(DataError, match=r"gives \(7, 3\); expected .* \(batch, 4\)"):
        readout(model, batches(data), 4)


def test_no_batches(model):
    with pytest.raises(DataError, match="no batches"):
        readout(model, [], 3)


def test_ends_in_a_convolution(data):
    model = nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten())
    with pytest.raises(DataError, match="must end in a Linear"):
        readout(model, batches(data), 3)
