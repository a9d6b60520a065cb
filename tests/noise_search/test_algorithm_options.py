"""Algorithms with options as people type them, and as a search on the embedded pipelines runs them."""

import pytest
from test_command import PROMPT
from test_command import run as command

from noise_search import RandomSearch, SearchOverPaths, ZeroOrderSearch, search
from noise_search.cli.options import configured_algorithm
from noise_search.shapes import EMBEDDED_MODELS


def test_options_become_the_object():
    assert configured_algorithm("random", []) == RandomSearch()
    typed = ["neighbours=8", "cosine=0.9", "patience=none"]
    assert configured_algorithm("zero-order", typed) == ZeroOrderSearch(neighbours=8, cosine=0.9)
    assert configured_algorithm("paths", ["rounds=2", "literal=False"]) == SearchOverPaths(rounds=2)


@pytest.mark.parametrize(
    ("name", "typed", "match"),
    [
        ("zero-ordr", [], "unknown algorithm 'zero-ordr'; did you mean 'zero-order'"),
        (
            "zero-order",
            ["neighbors=8"],
            "unknown option of algorithm 'zero-order': 'neighbors'; did you mean 'neighbours'",
        ),
        ("zero-order", ["neighbours"], "option 'neighbours' has no value"),
        ("zero-order", ["neighbours=many"], "neighbours='many' must be a whole number"),
        ("random", ["n=3"], "algorithm 'random' takes no options"),
        ("paths", ["start=2"], "start=2 must be between 0 and 1"),
    ],
)
def test_options_that_are_wrong_are_named(name, typed, match):
    with pytest.raises((ValueError, TypeError), match=match):
        configured_algorithm(name, typed)


def test_the_command_says_how_the_budget_was_spent(tmp_path):
    done = command(
        *("generate", PROMPT, "--algorithm", "paths", "--option", "paths=1", "--nfe", "30", "--steps", "5"),
        *("--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert "1 path to noise level 0.6, up to 0.8 and down to 0.4" in done.stdout
    wrong = command("generate", PROMPT, "--algorithm", "paths", "--draft-steps", "2", "--out", str(tmp_path))
    assert wrong.returncode == 2 and "stops at grid points inside trajectories" in wrong.stderr.splitlines()[-1]


@pytest.mark.parametrize("model", sorted(EMBEDDED_MODELS))
def test_the_published_levels_are_on_the_grid_of_both_pipelines(model):
    published = SearchOverPaths(paths=1, branches=1, literal=True)
    result = search(PROMPT, model=model, algorithm=published, steps=14, nfe=110, progress=False)
    schedule = result.settings["algorithm"]["schedule"]
    levels = [schedule["start"], *(level for turn in schedule["rounds"] for level in (turn["up"], turn["down"]))]
    # Stable Diffusion's grid ends at noise level .028, and so do the rounds.
    asked = (*published.levels, 0.0) if model == "shapes-flow" else (*published.levels[:6], 0.0283)
    assert levels == pytest.approx(asked, abs=2e-3)
    assert result.best.finished


def test_the_published_levels_are_refused_on_a_grid_that_starts_below_them():
    with pytest.raises(ValueError, match=r"level 0\.89 is noisier than .* more steps"):
        search(PROMPT, model="shapes-ddim", algorithm=SearchOverPaths(literal=True), steps=6, progress=False)


@pytest.mark.parametrize("model", sorted(EMBEDDED_MODELS))
def test_drafts_of_both_pipelines_are_plain_runs_of_fewer_steps(model):
    options = {"model": model, "candidates": 6, "progress": False}
    drafted = search(PROMPT, steps=6, draft_steps=3, draft_renders=1, **options)
    drafts = [c for c in drafted.candidates if c.draft]
    plain = search(PROMPT, steps=3, **(options | {"candidates": len(drafts)}))
    assert [c.score for c in drafts] == pytest.approx([c.score for c in plain.candidates], abs=1e-4)
    full = search(PROMPT, steps=6, **(options | {"candidates": 1}), seed=drafted.candidates[-1].seed)
    assert drafted.candidates[-1].score == pytest.approx(full.score, abs=1e-4)
