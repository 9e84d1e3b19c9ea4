"""One update of every dynamic method against public codes, on the same weights and momenta."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from tiny_cnn import FOLDER, LAYERS, golden, golden_tensors
from torch import Tensor

from espalier.pruning import dsr, rigl, set_itop, snfs
from espalier.pruning import set as set_pruner
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.rewiring import (
    AdjustedGrowth,
    Rewired,
    bernoulli_draw,
    cosine_rate,
    exact_draw,
    kept_counts,
)

WEIGHTS = golden_tensors("dst_state", "weight")
GRADIENTS = golden_tensors("dst_state", "grad")
MOMENTA = golden_tensors("dst_state", "momentum")
MASKS = {name: mask > 0 for name, mask in golden_tensors("dst_state", "mask").items()}
TARGET = 0.2 * 1448
RATE = 0.3


def library_draws() -> torch.Generator:
    """The stream from which the public codes drew their random growth."""
    return torch.Generator().manual_seed(3)


def recorded(name: str, kind: str) -> dict[str, Tensor]:
    return {layer: values > 0 for layer, values in golden_tensors(name, kind).items()}


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for layer in LAYERS:
        assert torch.equal(found[layer], expected[layer]), layer


def assert_golden(rewired: Rewired, name: str) -> None:
    """Masks after the drop and after the growth, and what changed in all, are the recorded ones."""
    assert_same(rewired.surviving, recorded(name, "mask_after_drop"))
    assert_same(rewired.masks, recorded(name, "mask"))
    if f"net_drop/{LAYERS[0]}" in golden(name):
        for layer in LAYERS:
            dropped = MASKS[layer] & ~rewired.masks[layer]
            grown = rewired.masks[layer] & ~MASKS[layer]
            assert torch.equal(dropped, recorded(name, "net_drop")[layer])
            assert torch.equal(grown, recorded(name, "net_grow")[layer])


def recorded_growth(name: str) -> Mapping[str, Tensor]:
    after, masks = recorded(name, "mask_after_drop"), recorded(name, "mask")
    return {layer: masks[layer] & ~after[layer] for layer in LAYERS}


class Replay:
    """A draw that grows the recorded positions, one layer after the other, and checks the count."""

    def __init__(self, name: str, *, exact: bool = True) -> None:
        self.growth = list(recorded_growth(name).values())
        self.exact = exact

    def __call__(self, free: Tensor, count: int) -> Tensor:
        positions = self.growth.pop(0)
        assert not bool((positions & ~free).any())
        assert not self.exact or int(positions.sum()) == count
        return positions


def test_goldens_are_all_read() -> None:
    read = {"rigl", "rigl_itoplib", "setitop", "setitop_unfired", "set_original", "set_itoplib"}
    read |= {"set_dettmerslib", "snfs_dettmers", "snfs_like_itoplib", "dsr_original_thr0.05"}
    read |= {"dsr_original_thr0.001", "dsr_dettmerslib_thr0.05", "dsr_dettmerslib_thr0.001"}
    patterns = ("rigl*", "set*", "snfs*", "dsr*")
    assert read == {path.stem for pattern in patterns for path in FOLDER.glob(f"{pattern}.npz")}


def test_rigl() -> None:
    rate = cosine_rate(0.3, 100, 1000)
    assert rate == pytest.approx(0.29265847744427304, rel=1e-12)
    rewired = rigl.rewire(WEIGHTS, GRADIENTS, MASKS, rate)
    dropped = recorded("rigl", "drop_before_growth")
    assert_same(rewired.surviving, {name: MASKS[name] & ~dropped[name] for name in LAYERS})
    assert_same(rewired.masks, recorded("rigl", "mask"))
    for layer in LAYERS:
        assert torch.equal(
            rewired.masks[layer] & ~rewired.surviving[layer], recorded("rigl", "grow")[layer]
        )
        assert torch.equal(
            MASKS[layer] & ~rewired.masks[layer], recorded("rigl", "net_drop")[layer]
        )


def test_rigl_weights_and_momenta() -> None:
    live = LiveTensors(
        {name: value.clone() for name, value in WEIGHTS.items()},
        GRADIENTS,
        {name: value.clone() for name, value in MOMENTA.items()},
    )
    horizon = Horizon(steps=1000, steps_per_epoch=100)
    method = rigl.dynamics(MASKS, 0.8, rigl.Options(end=1.0), horizon, 0)
    method.update(100, live)
    assert_same(method.masks, recorded("rigl", "mask"))
    assert_same(live.weights, golden_tensors("rigl", "weight_after"))
    assert_same(live.momenta, golden_tensors("rigl", "momentum_after"))


def test_rigl_of_the_itop_library() -> None:
    rewired = rigl.rewire(WEIGHTS, GRADIENTS, MASKS, RATE, counts="ceil")
    assert_golden(rewired, "rigl_itoplib")


def test_set_itop_with_bernoulli_growth() -> None:
    draw = bernoulli_draw(library_draws())
    assert_golden(set_itop.rewire(WEIGHTS, MASKS, RATE, draw), "setitop")


def test_set_itop_with_unfired_growth() -> None:
    draw = exact_draw(library_draws())
    rewired = set_itop.rewire(WEIGHTS, MASKS, RATE, draw, fired=MASKS)
    assert_golden(rewired, "setitop_unfired")


def test_set_itop_exploration_rate() -> None:
    method = set_itop.dynamics(MASKS, 0.8, set_itop.Options(), Horizon(10, 1), 0)
    assert method.exploration_rate == 306 / 1448
    method.fired = {name: MASKS[name] | recorded("setitop", "mask")[name] for name in LAYERS}
    assert method.exploration_rate == pytest.approx(0.27140883977900554, rel=1e-12)


def test_set() -> None:
    rewired = set_pruner.rewire(WEIGHTS, MASKS, 0.3, Replay("set_original"), counts="published")
    assert_golden(rewired, "set_original")


def test_set_of_the_itop_library_keeps_the_most_negative() -> None:
    draw = bernoulli_draw(library_draws())
    rewired = set_pruner.rewire(WEIGHTS, MASKS, RATE, draw, counts="itop_library")
    assert_golden(rewired, "set_itoplib")


def test_set_removes_its_share_unlike_the_code_that_removes_nearly_all() -> None:
    broken = recorded("set_dettmerslib", "mask_after_drop")
    assert sum(kept_counts(broken).values()) == 306 - 258
    for counts in ("exact", "published"):
        draw = exact_draw(library_draws())
        surviving, masks = set_pruner.rewire(WEIGHTS, MASKS, RATE, draw, counts)
        for layer in LAYERS:
            kept, left = int(MASKS[layer].sum()), int(surviving[layer].sum())
            assert abs(kept - left - RATE * kept) < 2.5
            assert int(masks[layer].sum()) == kept
            assert not torch.equal(surviving[layer], broken[layer])
            for sign in (1, -1):
                own = MASKS[layer] & (WEIGHTS[layer] * sign > 0)
                gone, stayed = own & ~surviving[layer], own & surviving[layer]
                assert WEIGHTS[layer][gone].abs().max() < WEIGHTS[layer][stayed].abs().min()


def test_snfs_shares_and_published_counts() -> None:
    shares = snfs.momentum_shares(MOMENTA, MASKS)
    expected = [0.2573257725994288, 0.17890978466283633, 0.5637644377347]
    np.testing.assert_allclose([shares[name] for name in LAYERS], expected, rtol=1e-6)
    adjusted = AdjustedGrowth(TARGET)
    rewired = snfs.rewire(WEIGHTS, MOMENTA, MASKS, RATE, adjusted=adjusted)
    assert_golden(rewired, "snfs_dettmers")
    adjusted.record(sum(kept_counts(rewired.masks).values()))
    assert adjusted.correction == pytest.approx(-30.45, abs=1e-9)


def test_snfs_exact_counts_are_the_published_ones_to_one_weight() -> None:
    surviving, masks = snfs.rewire(WEIGHTS, MOMENTA, MASKS, RATE)
    assert_same(surviving, recorded("snfs_dettmers", "mask_after_drop"))
    assert sum(kept_counts(masks).values()) == 306
    published = kept_counts(recorded("snfs_dettmers", "mask"))
    assert all(abs(count - published[name]) <= 1 for name, count in kept_counts(masks).items())


def test_snfs_without_redistribution() -> None:
    rewired = snfs.rewire(WEIGHTS, MOMENTA, MASKS, RATE, redistribution="none")
    assert_golden(rewired, "snfs_like_itoplib")


def test_snfs_needs_the_momenta_of_removed_weights() -> None:
    masked = {name: value * MASKS[name] for name, value in MOMENTA.items()}
    dense = snfs.rewire(WEIGHTS, MOMENTA, MASKS, RATE).masks
    blind = snfs.rewire(WEIGHTS, masked, MASKS, RATE).masks
    assert sum(int((dense[name] ^ blind[name]).sum()) for name in LAYERS) > 50


@pytest.mark.parametrize(
    ("threshold", "after", "growth"), [(0.05, 0.025, [12, 51, 5]), (0.001, 0.002, [0, 1, 0])]
)
def test_dsr(threshold: float, after: float, growth: list[int]) -> None:
    name = f"dsr_original_thr{threshold}"
    surviving = dsr.drop_below(WEIGHTS, MASKS, threshold)
    assert_same(surviving, recorded(name, "mask_after_drop"))
    removed = 306 - sum(kept_counts(surviving).values())
    assert dsr.adapted_threshold(threshold, removed, 60) == after
    free = {layer: int((~mask).sum()) for layer, mask in MASKS.items()}
    counts = dsr.growth_counts(surviving, free, removed, library_draws())
    assert list(counts.values()) == growth
    replay = Replay(name)
    replay.growth += [torch.zeros_like(mask) for mask in MASKS.values()]
    assert_golden(dsr.rewire(WEIGHTS, MASKS, threshold, library_draws(), replay), name)


@pytest.mark.parametrize(
    ("threshold", "after", "correction"), [(0.05, 0.07188, -40.95), (0.001, 0.0012, -26.95)]
)
def test_dsr_port(threshold: float, after: float, correction: float) -> None:
    name = f"dsr_dettmerslib_thr{threshold}"
    start, adjusted = dsr.Search(threshold, 0.2), AdjustedGrowth(TARGET)
    draw = bernoulli_draw(library_draws())
    rewired, search = dsr.rewire_port(WEIGHTS, MASKS, RATE, start, draw, adjusted)
    assert search.threshold == pytest.approx(after, rel=1e-9)
    assert_golden(rewired, name)
    adjusted.record(sum(kept_counts(rewired.masks).values()))
    assert adjusted.correction == pytest.approx(correction, abs=1e-9)


def test_dsr_port_with_exact_counts() -> None:
    start = dsr.Search(0.05, 0.2)
    draw = exact_draw(library_draws())
    (surviving, masks), _ = dsr.rewire_port(WEIGHTS, MASKS, RATE, start, draw)
    assert sum(kept_counts(masks).values()) == 306
    removed = 306 - sum(kept_counts(surviving).values())
    for name, kept in kept_counts(MASKS).items():
        grown = int((masks[name] & ~surviving[name]).sum())
        assert abs(grown - removed * kept / 306) < 1
