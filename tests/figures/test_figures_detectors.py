from __future__ import annotations

import itertools

import pytest
from figure_fixtures import BASELINES, DETECTORS, rf_table

from espalier.errors import ConfigurationError, DataError
from espalier.figures.detectors import detector_comparison
from espalier.figures.style import save
from espalier.figures.tables import HEADLINE_MEASURES


@pytest.fixture(scope="module")
def rf():
    return rf_table()


def test_bytes_are_equal_on_repeat(tmp_path, rf):
    table = rf[rf.dataset == "cifar20"]
    for name in "ab":
        figure = detector_comparison(table, BASELINES)
        save(figure, tmp_path / f"{name}.svg")
        save(figure, tmp_path / f"{name}.png")
    for suffix in (".svg", ".png"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_means_names_and_counts(rf):
    figure = detector_comparison(rf, BASELINES)
    assert len(figure.axes) == 2 * len(HEADLINE_MEASURES)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [
        "nested SBM", "Leiden", "Infomap", "average linkage", "induced by weights", "confusion",
        "class means",
    ]  # fmt: skip
    last = rf[(rf.sparsity == 0) & (rf.checkpoint == 10) & (rf.dataset == "cifar20")]
    expected = last[last.model == "conv6_thesis"].groupby("detector")["triplet"].mean()
    axes = figure.axes[len(HEADLINE_MEASURES) + 1]
    marks = [line for line in axes.lines if line.get_marker() == "^"]
    assert marks[0].get_xdata() == pytest.approx(expected.loc[list(DETECTORS)].to_numpy())
    words = next(t.get_text() for t in figure.texts if t.get_gid() == "caption").replace("\n", " ")
    assert "nested SBM 60, Leiden 15, Infomap 15, average linkage 3" in words
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[-3:] == ["star tree", "random tree", "permuted truth ± 1 sd"]
    labels = [axes.get_xlabel() for axes in figure.axes[len(HEADLINE_MEASURES) :]]
    assert labels == ["← better", "← better", "better →", "← better"]


def test_panel_titles_do_not_run_into_each_other(rf):
    figure = detector_comparison(rf, BASELINES)
    renderer = figure.canvas.get_renderer()
    boxes = [axes.title.get_window_extent(renderer) for axes in figure.axes[:4]]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_a_detector_without_a_value_leaves_a_gap(rf):
    table = rf.copy()
    table.loc[table.detector == "leiden", "triplet"] = float("nan")
    figure = detector_comparison(table, BASELINES, measures=["triplet"])
    words = next(t.get_text() for t in figure.texts if t.get_gid() == "caption")
    assert "Leiden" not in words


def test_bad_input_is_named(rf):
    with pytest.raises(DataError, match="lacks the column 'triplet'"):
        detector_comparison(rf.drop(columns="triplet"))
    with pytest.raises(DataError, match=r"no row with sparsity 0.3. It has: 0, 0.5"):
        detector_comparison(rf, sparsity=0.3)
    with pytest.raises(DataError, match="no rows"):
        detector_comparison(rf.iloc[:0])
    with pytest.raises(ConfigurationError, match="at least one measure"):
        detector_comparison(rf, measures=[])
    with pytest.raises(ConfigurationError, match="Did you mean 'triplet'"):
        detector_comparison(rf, measures=["triplets"])
