from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from espalier.errors import ConfigurationError, DataError
from espalier.graphs.activations import collect, shuffled
from espalier.graphs.coactivation import coactivation_graph
from espalier.graphs.correlation import correlated_pairs


def small_network(inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(2, 4, 3, padding=1),
            norm=nn.BatchNorm2d(4),
            relu=nn.ReLU(inplace),
            pool=nn.MaxPool2d(2),
            flat=nn.Flatten(),
            drop=nn.Dropout(0.5),
            dense=nn.Linear(4 * 9, 5),
            relu2=nn.ReLU(inplace),
            output=nn.Linear(5, 3),
        )
    )
    with torch.no_grad():
        model.norm.running_mean.uniform_(-1, 1)
        model.norm.running_var.uniform_(0.5, 2)
        model.norm.weight.uniform_(-2, 2)
    return model


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randn(23, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def by_hand(model: nn.Sequential, x: torch.Tensor, tap: str, reduce: str, output: str):
    model.eval()
    with torch.no_grad():
        conv = model.conv(x)
        norm = model.norm(conv)
        relu = torch.relu(norm)
        hidden = {"linear_out": conv, "post_bn": norm, "post_relu": relu}[tap].flatten(2)
        hidden = hidden.mean(2) if reduce == "mean" else hidden.max(2).values
        dense = model.dense(model.flat(model.pool(relu)))
        logits = model.output(torch.relu(dense))
        second = torch.relu(dense) if tap == "post_relu" else dense
        out = logits if output == "logit" else logits.exp() / logits.exp().sum(1, keepdim=True)
    return torch.cat([hidden, second, out], 1).numpy()


class TestValues:
    @pytest.mark.parametrize("inplace", [False, True])
    @pytest.mark.parametrize("tap", ["linear_out", "post_bn", "post_relu"])
    @pytest.mark.parametrize("reduce", ["mean", "max"])
    @pytest.mark.parametrize("output", ["logit", "softmax"])
    def test_equals_the_forward_pass_by_hand(self, inputs, tap, reduce, output, inplace):
        expected = by_hand(small_network(), inputs, tap, reduce, output)
        found = collect(small_network(inplace), inputs.split(7), tap, reduce, output)
        np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-6)

    def test_nodes(self, inputs):
        found = collect(small_network(), [inputs])
        assert found.layer_names == ("conv", "dense", "output")
        assert found.layer.tolist() == [0] * 4 + [1] * 5 + [2] * 3
        assert found.neuron.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2]
        assert found.label.tolist() == [-1] * 9 + [0, 1, 2]
        assert found.values.dtype == np.float32
        assert found.values.shape == (23, 12)
        assert found.values.flags.f_contiguous

    def test_execution_order_is_not_definition_order(self):
        class Swapped(nn.Module):
            def __init__(self):
                super().__init__()
                self.output = nn.Linear(4, 2)
                self.first = nn.Linear(3, 4)

            def forward(self, x):
                return self.output(self.first(x))

        found = collect(Swapped(), [torch.randn(5, 3)])
        assert found.layer_names == ("first", "output")
        assert found.label.tolist() == [-1] * 4 + [0, 1]

    def test_tuples_lists_and_loaders(self, inputs):
        model, labels = small_network(), torch.zeros(23)
        expected = collect(model, inputs.split(8)).values
        loader = DataLoader(TensorDataset(inputs, labels), batch_size=8)
        pairs = [(x, None) for x in inputs.split(8)]
        assert np.array_equal(collect(model, loader).values, expected)
        assert np.array_equal(collect(model, pairs).values, expected)

    def test_containers_named_like_layers_are_not_layers(self):
        class ConvBNReLU(nn.Sequential):
            pass

        block = ConvBNReLU(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
        model = nn.Sequential(block, nn.Flatten(), nn.Linear(3 * 16, 2))
        for tap in ("linear_out", "post_bn", "post_relu"):
            found = collect(model, [torch.randn(4, 1, 6, 6)], tap)
            assert found.layer_names == ("0.0", "2")

    def test_post_bn_without_batch_norm_is_the_layer_itself(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        x = torch.randn(6, 3)
        assert np.array_equal(collect(model, [x], "post_bn").values, collect(model, [x]).values)

    def test_one_relu_module_used_twice(self):
        class Shared(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2)
                self.relu = nn.ReLU()

            def forward(self, x):
                return self.c(self.relu(self.b(self.relu(self.a(x)))))

        found = collect(Shared(), [torch.randn(50, 3)], "post_relu")
        assert found.values[:, :9].min() == 0
        assert found.values[:, 9:].min() < 0

    def test_transposed_convolution(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.ConvTranspose2d(4, 6, 2, groups=2), nn.Flatten(), nn.Linear(54, 2))
        mask = torch.ones(4, 3, 2, 2, dtype=torch.bool)
        mask[2:, 1] = False  # output channel 1 of the second group, unit 4
        x = torch.randn(3, 4, 2, 2)
        found = collect(model, [x], masks={"0.weight": mask})
        assert found.neuron.tolist() == [0, 1, 2, 3, 5, 0, 1]


class TestMasks:
    @pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray])
    def test_pruned_units_are_absent(self, inputs, kind):
        model = small_network()
        conv = torch.ones(4, 2, 3, 3, dtype=torch.bool)
        conv[1] = False
        conv[2, 0] = False
        conv[2, 1, 0, 0] = True
        dense = torch.zeros(5, 36, dtype=torch.bool)
        dense[[0, 3], 5] = True
        masks = {"conv.weight": kind(conv), "dense.weight": kind(dense)}
        found = collect(model, [inputs], masks=masks)
        everything = collect(model, [inputs])
        assert found.neuron.tolist() == [0, 2, 3, 0, 3, 0, 1, 2]
        assert found.layer.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
        assert np.array_equal(found.values, everything.values[:, [0, 2, 3, 4, 7, 9, 10, 11]])

    def test_outputs_are_never_dropped(self, inputs):
        masks = {"output.weight": torch.zeros(3, 5, dtype=torch.bool)}
        found = collect(small_network(), [inputs], masks=masks)
        assert found.label[-3:].tolist() == [0, 1, 2]

    def test_whole_layer_pruned(self, inputs):
        masks = {"dense.weight": torch.zeros(5, 36, dtype=torch.bool)}
        with pytest.raises(DataError, match="all 5 units of layer 'dense' are pruned"):
            collect(small_network(), [inputs], masks=masks)

    def test_unknown_parameter(self, inputs):
        with pytest.raises(DataError, match=r"'dence\.weight'.*Did you mean 'dense\.weight'"):
            collect(small_network(), [inputs], masks={"dence.weight": torch.ones(5, 36)})

    def test_wrong_shape(self, inputs):
        with pytest.raises(DataError, match=r"shape \(5, 35\), but the parameter has .*\(5, 36\)"):
            collect(small_network(), [inputs], masks={"dense.weight": torch.ones(5, 35)})


class TestState:
    def test_modes_statistics_and_hooks_are_restored(self, inputs):
        model = small_network()
        model.train()
        model.norm.eval()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        collect(model, [inputs])
        assert model.training
        assert model.drop.training
        assert not model.norm.training
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert not any(module._forward_hooks for module in model.modules())

    def test_restored_after_an_error(self, inputs):
        model = small_network().train()
        with pytest.raises(RuntimeError):
            collect(model, [inputs[:, :1]])
        assert model.training
        assert not any(module._forward_hooks for module in model.modules())

    def test_dropout_is_off_and_result_repeats(self, inputs):
        model = small_network().train()
        first, second = collect(model, [inputs]), collect(model, [inputs])
        assert first.values.tobytes() == second.values.tobytes()


class TestFile:
    def test_same_values_as_in_memory(self, inputs, tmp_path, monkeypatch):
        monkeypatch.setattr("espalier.graphs.activations._STAGED_SAMPLES", 10)
        model = small_network()
        path = tmp_path / "values.npy"
        found = collect(model, inputs.split(4), memmap=path, samples=23)
        assert isinstance(found.values, np.memmap)
        assert found.values.flags.f_contiguous
        assert np.array_equal(found.values, collect(model, inputs.split(4)).values)
        assert np.load(path).shape == (12, 23)
        assert [p.name for p in tmp_path.iterdir()] == ["values.npy"]

    def test_correlation_of_the_file(self, inputs, tmp_path):
        model = small_network()
        found = collect(model, inputs.split(4), memmap=tmp_path / "v.npy", samples=23)
        tiled = correlated_pairs(found.values, threshold=0, tile=5, scratch=tmp_path)
        dense = correlated_pairs(collect(model, inputs.split(4)).values, threshold=0)
        assert tiled.correlation.tobytes() == dense.correlation.tobytes()

    def test_number_of_samples_of_a_loader(self, inputs, tmp_path):
        loader = DataLoader(TensorDataset(inputs), batch_size=5)
        found = collect(small_network(), loader, memmap=tmp_path / "v.npy")
        assert found.values.shape == (23, 12)

    @pytest.mark.parametrize("samples", [22, 24])
    def test_wrong_number_of_samples(self, inputs, tmp_path, samples):
        with pytest.raises(DataError, match=f"room for {samples} samples"):
            collect(small_network(), inputs.split(4), memmap=tmp_path / "v.npy", samples=samples)
        assert list(tmp_path.iterdir()) == []

    def test_unknown_number_of_samples(self, inputs, tmp_path):
        with pytest.raises(ConfigurationError, match="pass samples="):
            collect(small_network(), [inputs], memmap=tmp_path / "v.npy")


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tap": "post-relu"}, "Did you mean 'post_relu'"),
            ({"reduce": "maxx"}, "Did you mean 'max'"),
            ({"output": "logits"}, "Did you mean 'logit'"),
        ],
    )
    def test_unknown_option(self, inputs, options, message):
        with pytest.raises(ConfigurationError, match=message):
            collect(small_network(), [inputs], **options)

    def test_no_relu_module(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        with pytest.raises(DataError, match="no ReLU module runs between layer '0'"):
            collect(model, [torch.randn(5, 3)], "post_relu")

    def test_layer_used_twice(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner, self.output = nn.Linear(3, 3), nn.Linear(3, 2)

            def forward(self, x):
                return self.output(self.inner(self.inner(x)))

        with pytest.raises(DataError, match="'inner' runs twice"):
            collect(Twice(), [torch.randn(5, 3)])

    def test_ends_in_a_convolution(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.Unflatten(1, (3, 1)), nn.Conv1d(3, 2, 1))
        with pytest.raises(DataError, match="'2', is a Conv1d; the network must end in a Linear"):
            collect(model, [torch.randn(5, 3)])

    def test_no_layers(self):
        with pytest.raises(DataError, match="no Conv or Linear module"):
            collect(nn.Sequential(nn.ReLU()), [torch.randn(5, 3)])

    def test_no_batches(self):
        with pytest.raises(DataError, match="no batches"):
            collect(small_network(), [])

    def test_batch_norm_over_flattened_positions(self):
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 2)
        )
        with pytest.raises(DataError, match=r"\(4, 48\).*3 units of layer '0'"):
            collect(model, [torch.randn(4, 1, 6, 6)], "post_bn")

    def test_linear_over_a_sequence(self):
        with pytest.raises(DataError, match=r"gives shape \(4, 7, 2\)"):
            collect(nn.Sequential(nn.Linear(3, 2)), [torch.randn(4, 7, 3)])

    def test_layers_change_between_batches(self):
        class Moody(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.output = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

            def forward(self, x):
                return self.output(self.a(x) if len(x) == 5 else self.b(x))

        with pytest.raises(DataError, match="the layers must be the same"):
            collect(Moody(), [torch.randn(5, 3), torch.randn(4, 3)])


class TestShuffled:
    def test_columns_keep_their_values_and_lose_their_order(self):
        values = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
        values[:, 3] = values[:, 2]
        result = shuffled(values, 0)
        assert np.array_equal(np.sort(result, axis=0), np.sort(values, axis=0))
        assert not np.array_equal(result[:, 2], result[:, 3])
        assert result.flags.f_contiguous
        assert abs(np.corrcoef(result[:, 2], result[:, 3])[0, 1]) < 0.3

    def test_named_stream_of_the_seed(self):
        values = np.arange(300.0).reshape(100, 3)
        assert np.array_equal(shuffled(values, 5), shuffled(values, 5))
        assert not np.array_equal(shuffled(values, 5), shuffled(values, 6))
        assert np.array_equal(shuffled(values[:, :2], 5), shuffled(values, 5)[:, :2])


def test_from_network_to_graph(inputs):
    found = collect(small_network(), inputs.split(6), "post_relu")
    graph = coactivation_graph(
        found.values, found.layer, found.neuron, found.label, found.layer_names, "abc", threshold=0
    )
    assert graph.output_nodes.tolist() == [9, 10, 11]
    assert graph.n_edges > 0
