"""Figures of load flows: where buses stand, what is named, which overloads are counted."""

from dataclasses import replace

import numpy as np
import pytest

from problems.grid._drawing import Loaded, layout, network_figure
from problems.grid._figures import load_flow_figures, loading_figure
from sciml.grid.cases import open_case
from sciml.grid.powergrid import PowerGrid
from sciml.grid.topology import coupled

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def grid() -> PowerGrid:
    return open_case("ieee14")


def test_buses_stand_where_the_case_has_them(grid: PowerGrid) -> None:
    assert grid.positions is not None
    np.testing.assert_array_equal(layout(grid), grid.positions)
    assert len(np.unique(grid.positions, axis=0)) == 14


def test_a_busbar_without_a_place_stands_near_its_neighbours(grid: PowerGrid) -> None:
    joined = coupled(grid, "4")
    at = layout(joined)
    np.testing.assert_array_equal(at[:-1], grid.positions)
    reach = np.ptp(at[:-1], axis=0).max()
    assert 0 < np.linalg.norm(at[-1] - at[grid.bus("4")]) < reach


def test_springs_place_the_buses_of_a_case_without_coordinates(grid: PowerGrid) -> None:
    bare = replace(grid, positions=None)
    at = layout(bare)
    np.testing.assert_array_equal(at, layout(bare))
    lengths = np.linalg.norm(at[grid.source] - at[grid.target], axis=1)
    apart = np.linalg.norm(at[:, None] - at[None], axis=2)
    assert np.median(lengths) < 0.7 * np.median(apart[apart > 0])


def test_the_network_names_the_worst_branch_and_those_out(grid: PowerGrid) -> None:
    status = np.ones(20)
    status[grid.branch("2_4")] = 0
    loading, exact = np.full(20, 0.5), np.full(20, 0.5)
    loading[grid.branch("1_5")], exact[grid.branch("1_5")] = 1.23, 1.1
    figure = network_figure(grid, Loaded(status, loading, exact), "a test")
    assert figure.get_suptitle() == "a test; out: 2–4"
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "1–5\n123 % (true 110 %)" in texts
    assert "14" in texts


def test_overloads_are_counted_as_found_missed_and_false() -> None:
    exact = np.array([[1.2, 0.5, 1.5], [1.1, 0.2, 0.3], [1.3, 1.1, 0.9]])
    found = np.array([[1.1, 0.6, 0.9], [1.2, 1.4, 0.3], [np.nan, 1.2, 0.8]])
    figure = loading_figure(found, exact, np.array([1, 1, 2]), (0, 1))
    texts = [panel.texts[0].get_text() for panel in figure.axes]
    assert texts == ["3 overloads\n1 missed\n1 false alarms", "2 overloads\n1 missed\n0 false alarms"]


def test_scenarios_without_an_answer_do_not_spoil_the_figures(grid: PowerGrid) -> None:
    truth = np.tile(np.r_[np.ones(14), np.linspace(0, -10, 14)], (3, 1))
    answer = 1.01 * truth
    answer[0] = np.nan
    drawn = load_flow_figures(grid, np.ones((3, 20)), answer, truth, np.zeros(3, int), (0, 1), 0)
    assert [name for name, _ in drawn] == ["flows", "outages", "loading", "network"]
    answer[:] = np.nan
    drawn = load_flow_figures(grid, np.ones((3, 20)), answer, truth, np.zeros(3, int), (0, 1), 0)
    assert not list(drawn)
