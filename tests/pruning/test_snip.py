from __future__ import annotations

import pytest
import torch
from tiny_cnn import LAYERS, TinyCNN, fixture_batch, golden_tensors, tiny_cnn
from torch import nn

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request, prunable_parameters, prune, scores
from espalier.pruning.saliency import redraw_xavier
from espalier.pruning.snip import Options
from espalier.pruning.snip import scores as snip_scores
from espalier.seeds import torch_generator

GOLDENS = {
    "snip": {"counts": "at_least_kth_largest"},
    "snip_synflowrepo_train": {"counts": "above_kth_smallest", "normalise": True},
    "snip_synflowrepo_eval": {
        "counts": "above_kth_smallest",
        "normalise": True,
        "batch_norm": "eval",
    },
}


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_scores_and_masks(name: str) -> None:
    options = GOLDENS[name]
    values = scores("snip", tiny_cnn(), [fixture_batch()], **options)
    masks = prune("snip", tiny_cnn(), [fixture_batch()], 0.8, **options)
    expected_scores, expected_masks = golden_tensors(name, "score"), golden_tensors(name, "mask")
    for key in LAYERS:
        torch.testing.assert_close(values[key], expected_scores[key], rtol=1e-4, atol=1e-8)
        assert torch.equal(masks[key], expected_masks[key].bool())


def test_golden_of_the_port_that_scores_other_weights() -> None:
    """Its Xavier draws follow the draws that build the fixture's network, from seed 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = TinyCNN()
        for key in LAYERS:
            nn.init.kaiming_normal_(built.get_parameter(key))
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    model = tiny_cnn()
    assert torch.equal(model.fc.weight, built.fc.weight)
    redraw_xavier(prunable_parameters(model), generator)
    values = scores("snip", model, [fixture_batch()])
    masks = prune("snip", model, [fixture_batch()], 0.8, counts="at_least_kth_largest")
    name = "snip_as_shipped_xavier_reinit"
    expected_scores, expected_masks = golden_tensors(name, "score"), golden_tensors(name, "mask")
    for key in LAYERS:
        torch.testing.assert_close(values[key], expected_scores[key], rtol=1e-4, atol=1e-8)
        assert torch.equal(masks[key], expected_masks[key].bool())


def test_xavier_option_scores_weights_drawn_from_the_seed() -> None:
    found = scores("snip", tiny_cnn(), [fixture_batch()], seed=3, reinitialise="xavier")
    model = tiny_cnn()
    redraw_xavier(prunable_parameters(model), torch_generator(3, "snip", "xavier"))
    expected = scores("snip", model, [fixture_batch()])
    other = scores("snip", tiny_cnn(), [fixture_batch()], seed=4, reinitialise="xavier")
    for key in LAYERS:
        assert torch.equal(found[key], expected[key])
        assert not torch.equal(found[key], other[key])


def test_normalised_scores_sum_to_one_and_give_the_same_masks() -> None:
    values = scores("snip", tiny_cnn(), [fixture_batch()], normalise=True)
    assert sum(float(value.sum()) for value in values.values()) == pytest.approx(1)
    masks = [
        prune("snip", tiny_cnn(), [fixture_batch()], 0.9, normalise=normalise)
        for normalise in (False, True)
    ]
    for key in LAYERS:
        assert torch.equal(masks[0][key], masks[1][key])


def test_gradients_of_several_batches_are_averaged_before_their_absolute_value() -> None:
    inputs, labels = fixture_batch()
    halves = [(inputs[:32], labels[:32]), (inputs[32:], labels[32:])]
    model = tiny_cnn().eval()
    whole = scores("snip", model, [(inputs, labels)], batch_norm="eval")
    both = scores("snip", model, halves, batch_norm="eval", num_batches=2)
    for key in LAYERS:
        torch.testing.assert_close(both[key], whole[key], rtol=1e-4, atol=1e-7)


def test_only_the_batches_asked_for_are_read() -> None:
    read = []

    def loader():
        for index in range(5):
            read.append(index)
            yield fixture_batch()

    prune("snip", tiny_cnn(), loader(), 0.5)
    assert read == [0]


def test_excluded_weights_are_not_scored() -> None:
    values = scores("snip", tiny_cnn(), [fixture_batch()], exclude={"fc.weight"})
    expected = golden_tensors("snip", "score")
    assert list(values) == ["conv1.weight", "conv2.weight"]
    torch.testing.assert_close(values["conv2.weight"], expected["conv2.weight"])


def test_unknown_reinitialisation() -> None:
    with pytest.raises(ConfigurationError, match="unknown value of reinitialise 'xaver'"):
        Options(reinitialise="xaver")


def test_layers_may_collapse() -> None:
    model = tiny_cnn()
    with torch.no_grad():
        model.conv1.weight *= 1e-6
    request = Request(model, prunable_parameters(model), [fixture_batch()], 0)
    assert not any(not value.isfinite().all() for value in snip_scores(request, Options()).values())
    masks = prune("snip", model, [fixture_batch()], 0.98, batch_norm="eval")
    assert not masks["conv1.weight"].any()
