"""The scripts that repeat the paper's experiments: every axis is a valid comparison, a small one runs and reports."""

import csv
import importlib
import inspect
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from noise_search import Comparison, compare
from noise_search.settings import ModelOptions
from noise_search.shapes import SMALL

SCRIPTS = Path(__file__).parents[3] / "notebooks" / "paper"
RESULTS = sorted((SCRIPTS / "results").glob("*.csv"))


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield {name: importlib.import_module(name) for name in ("axes", "run", "report", "cost")}
        for name in ("axes", "run", "report", "cost"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def ran(scripts, tmp_path_factory):
    """An axis of two runs, of which the second has a prompt more than the first."""
    place = tmp_path_factory.mktemp("axes")
    runs = {f"{steps} steps": {"steps": steps, "candidates": (1, 2), "algorithms": ["random"]} for steps in (2, 3)}
    axis = scripts["axes"].Axis("Two numbers of steps", runs, lambda run, algorithm: run, cost=lambda run, nfe: nfe / 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scripts["axes"].AXES, "small", lambda: axis)
        scripts["run"].run("small", place, 1, 1, batch_size=16)
        patch.setitem(scripts["axes"].AXES, "small", lambda: replace(axis, runs={"3 steps": runs["3 steps"]}))
        scripts["run"].run("small", place, 2, 1, batch_size=16)
    return axis, place


def test_every_axis_asks_for_what_compare_takes(scripts):
    known = {*inspect.signature(compare).parameters, *ModelOptions.__annotations__}
    for name, made in scripts["axes"].AXES.items():
        axis = made()
        assert axis.runs and axis.title, name
        for run, given in axis.runs.items():
            assert given.keys() <= known, (name, run)
            assert ("candidates" in given) != ("budgets" in given), (name, run)
            assert axis.cost(run, 20) > 0


@pytest.mark.slow
def test_points_are_means_over_the_searches_that_all_curves_have(scripts, ran):
    axis, place = ran
    more = Comparison.read(place / "3-steps")
    assert len(more.prompts) == 12 and len(Comparison.read(place / "2-steps").prompts) == 6
    found = scripts["report"].points(axis, place)
    assert {(one.curve, one.cost, one.measure) for one in found} == {
        (f"{steps} steps", count * steps / 2, measure)
        for steps in (2, 3) for count in (1, 2) for measure in ("clip", "oracle")
    }  # fmt: skip
    assert {one.score.searches for one in found} == {6}
    shared = Comparison.read(place / "2-steps").prompts
    scores = [one.scores["clip"] for one in more.records if one.budget == 3 and one.prompt in shared]
    (point,) = [one for one in found if (one.curve, one.budget, one.measure) == ("3 steps", 3, "clip")]
    assert point.score.value == pytest.approx(sum(scores) / 6)


@pytest.mark.slow
def test_an_axis_is_reported_as_table_figure_and_csv(scripts, ran, tmp_path):
    axis, place = ran
    found = scripts["report"].points(axis, place)
    scripts["report"].write_csv(found, tmp_path / "small.csv")
    rows = list(csv.DictReader((tmp_path / "small.csv").open(encoding="utf-8")))
    assert [float(row["mean"]) for row in rows] == pytest.approx([one.score.value for one in found], rel=1e-4)
    table = scripts["report"].markdown(axis, found).splitlines()
    assert table[0] == "| curve | NFE | clip | oracle | searches |" and len(table) == 2 + 4
    figure = scripts["report"].figure(axis, found)
    assert "clip: 2 steps: " in figure.alt and len(figure.axes) == 2


def test_costs_are_those_that_torch_counts(scripts):
    from noise_search.shapes import small_flow

    assert scripts["cost"]._cost(small_flow("cpu")) == pytest.approx(scripts["axes"].GFLOPS[SMALL], rel=1e-3)


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_results_that_are_kept_have_every_curve_of_their_axis(scripts, file):
    axis = scripts["axes"].AXES[file.stem]()
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    algorithms = {
        run: list(given.get("algorithms", ("random", "zero-order", "paths"))) for run, given in axis.runs.items()
    }
    curves = {axis.curve(run, name) for run, names in algorithms.items() for name in names} - {None}
    assert {row["curve"] for row in rows} == curves
    assert {row["measure"] for row in rows} == set(axis.measures)
    assert all(float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in rows)
    assert len({row["searches"] for row in rows}) == 1 and int(rows[0]["searches"]) >= 12
    for suffix in ("png", "svg"):
        assert file.with_suffix(f".{suffix}").exists()
