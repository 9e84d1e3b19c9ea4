"""Random masked networks for property tests."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st


@st.composite
def mask_lists(draw, widest=9, layers=4, min_inputs=1):
    """Masks of a small network: dense or sparse, with repeated rows now and then."""
    sizes = [draw(st.integers(min_inputs, widest))]
    sizes += draw(st.lists(st.integers(1, widest), min_size=1, max_size=layers))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.15, 0.3, 0.5, 0.8, 1.0]))
    masks = [
        generator.random((after, before)) < density for before, after in itertools.pairwise(sizes)
    ]
    if draw(st.booleans()):
        masks[0] = masks[0][:, generator.integers(sizes[0], size=sizes[0])]
    return masks
