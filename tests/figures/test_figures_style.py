from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from figure_fixtures import assert_no_overlap
from hypothesis import given
from hypothesis import strategies as st

from espalier.errors import ConfigurationError
from espalier.figures.style import (
    OKABE_ITO,
    SERIES_COLOURS,
    display_name,
    frame,
    label_points,
    new_figure,
    save,
    series_style,
    settle,
    spread,
    style,
    styled,
    text_extent,
    wrap,
)


@styled
def _plot(width: float = 4.0):
    figure = new_figure(width, 2.0)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], **series_style(0), label="a line")
    axes.fill_between([0, 1], [0, 1], [1, 2], alpha=0.2)
    frame(figure, "A title", "A caption that says what the bars are and what n is, " * 3)
    return figure


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_equal_figures_give_equal_bytes_without_a_date(tmp_path, suffix):
    first, second, again = (tmp_path / f"{name}{suffix}" for name in "abc")
    figure = _plot()
    save(figure, first)
    save(figure, again)
    save(_plot(), second)
    assert first.read_bytes() == second.read_bytes() == again.read_bytes()
    assert b"<dc:date>" not in first.read_bytes()
    other = tmp_path / f"other{suffix}"
    save(_plot(5.0), other)
    assert other.read_bytes() != first.read_bytes()


def test_svg_does_not_depend_on_the_process_or_on_the_users_settings(tmp_path):
    code = (
        "import sys, matplotlib; matplotlib.rcParams['font.size'] = 30;"
        "matplotlib.rcParams['svg.hashsalt'] = 'mine';"
        "sys.path.insert(0, sys.argv[2]);"
        "from test_figures_style import _plot; from espalier.figures.style import save;"
        "save(_plot(), sys.argv[1])"
    )
    here = str(Path(__file__).parent)
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "other.svg"), here], check=True, timeout=60
    )
    save(_plot(), tmp_path / "own.svg")
    assert (tmp_path / "own.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_other_suffixes_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ConfigurationError, match=r"\.svg or \.png, not '\.jpg'"):
        save(_plot(), tmp_path / "figure.jpg")
    assert list(tmp_path.iterdir()) == []


def test_the_style_leaves_no_trace():
    names = sorted(set(matplotlib.rcParams) - {"backend"})  # reading the backend imports pyplot
    before = {name: matplotlib.rcParams[name] for name in names}
    _plot()
    with style():
        assert matplotlib.rcParams["svg.hashsalt"] == "espalier"
    assert {name: matplotlib.rcParams[name] for name in names} == before


def test_pyplot_is_never_imported(tmp_path):
    code = (
        "import sys, espalier.figures as figures;"
        "assert 'matplotlib' not in sys.modules;"
        "[getattr(figures, name) for name in figures.__all__];"
        "assert 'matplotlib' in sys.modules;"
        "sys.path.insert(0, sys.argv[1]);"
        "from test_figures_style import _plot; figures.save(_plot(), sys.argv[2]);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    here = str(Path(__file__).parent)
    subprocess.run(
        [sys.executable, "-c", code, here, str(tmp_path / "a.svg")], check=True, timeout=60
    )


def test_unknown_export_is_an_attribute_error():
    import espalier.figures as figures

    with pytest.raises(AttributeError, match="no_such_figure"):
        _ = figures.no_such_figure


def test_series_differ_in_colour_marker_and_dash():
    looks = [series_style(index) for index in range(6)]
    for key in ("color", "marker", "linestyle"):
        assert len({str(look[key]) for look in looks}) == 6
    assert set(SERIES_COLOURS) <= set(OKABE_ITO.values())


def test_display_names():
    assert display_name("nested_sbm") == "nested SBM"
    assert display_name("my_own_model") == "my own model"


def test_wrap_keeps_words_and_fits_the_width():
    figure = new_figure(3, 2)
    text = "the quick brown fox jumps over the lazy dog " * 4
    wrapped = wrap(figure, text + "\nsecond paragraph", 8, 2.0)
    assert wrapped.split() == (text + "\nsecond paragraph").split()
    assert "\nsecond paragraph" in wrapped
    assert all(text_extent(figure, line, 8)[0] <= 2.0 for line in wrapped.split("\n"))


def test_frame_keeps_title_panels_and_caption_apart():
    figure = _plot()
    renderer = figure.canvas.get_renderer()
    boxes = {
        text.get_gid(): text.get_window_extent(renderer) for text in figure.texts if text.get_gid()
    }
    panel = figure.axes[0].get_tightbbox(renderer)
    assert boxes["caption"].y1 <= panel.y0
    assert panel.y1 <= boxes["title"].y0
    assert boxes["caption"].x1 <= figure.bbox.x1
    assert figure.get_size_inches()[1] > 2.0


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=12),
    st.floats(0.01, 0.8),
)
def test_spread_keeps_order_gap_and_room(wanted, gap):
    wanted = np.array(wanted)
    placed = spread(wanted, gap, 0.0, 10.0)
    order = np.argsort(wanted, kind="stable")
    assert np.all(np.diff(placed[order]) >= gap - 1e-9)
    assert placed.min() >= -1e-9
    assert placed.max() <= 10 + 1e-9


def test_spread_moves_as_little_as_possible():
    assert spread(np.array([1.0, 5.0]), 2.0, 0, 10) == pytest.approx([1, 5])
    assert spread(np.array([5.0, 4.0]), 2.0, 0, 10) == pytest.approx([5.5, 3.5])
    assert spread(np.array([0.0, 0.0]), 2.0, 0, 10) == pytest.approx([0, 2])
    # Brute force: least squares over a fine grid.
    wanted = np.array([1.0, 1.2, 2.0])
    grid = np.linspace(0, 4, 81)
    best = min(
        ((a - 1.0) ** 2 + (b - 1.2) ** 2 + (c - 2.0) ** 2, a, b, c)
        for a in grid
        for b in grid[grid >= a + 1 - 1e-9]
        for c in grid[grid >= b + 1 - 1e-9]
    )
    assert spread(wanted, 1.0, 0, 4) == pytest.approx(best[1:], abs=0.06)
    assert spread(np.array([]), 1.0, 0, 1).size == 0


@styled
def test_labels_of_a_tight_group_do_not_overlap():
    figure = new_figure(5, 4)
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.03, (14, 2)), rng.normal(1, 0.3, (6, 2))])
    axes.scatter(*points.T)
    axes.set_xlim(-1, 2)
    axes.set_ylim(-1, 2)
    settle(figure)
    texts = label_points(axes, points, [f"pickup_truck{k}" for k in range(20)])
    figure.draw_without_rendering()
    assert_no_overlap(figure, texts)
    assert [text.get_text() for text in texts] == [f"pickup_truck{k}" for k in range(20)]
