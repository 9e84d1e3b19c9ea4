"""Which tables and figures a report shows."""

from __future__ import annotations

import typing

import pytest

from espalier.config import Settings
from espalier.errors import ConfigurationError
from espalier.figures.catalogue import (
    FIGURES,
    HEADINGS,
    REPORTED,
    REPORTED_OF_PUBLISHED,
    heading_of_figure,
    heading_of_table,
    versions,
)


def test_every_analysis_of_the_configuration_has_a_heading_and_tables():
    analyses = typing.get_args(typing.get_args(Settings.model_fields["analyses"].annotation)[0])
    assert set(analyses) == set(HEADINGS) == set(REPORTED)


def test_every_table_and_figure_has_one_heading():
    tables = [name for names in REPORTED.values() for name in names]
    assert len(set(tables)) == len(tables)
    for table in (*tables, *REPORTED_OF_PUBLISHED):
        assert heading_of_table(table) in HEADINGS.values()
    for figure in FIGURES:
        assert heading_of_figure(figure) in HEADINGS.values()
    assert heading_of_table("rf") == heading_of_figure("facing_trees") == "Class hierarchies"
    assert heading_of_figure("hub_methods") == "Hub neurons"


def test_unknown_names_are_refused():
    with pytest.raises(ConfigurationError, match="unknown table 'rff'"):
        heading_of_table("rff")
    with pytest.raises(ConfigurationError, match="unknown figure 'facing_tree'"):
        heading_of_figure("facing_tree")


def test_versions_name_what_is_installed():
    found = versions()
    assert list(found)[:2] == ["Espalier", "Python"] and "numpy" in found
    assert all(found.values())
