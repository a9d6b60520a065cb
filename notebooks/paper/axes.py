"""The experiments of Ma et al. 2025 (arXiv 2501.09732) as comparisons of the embedded models.

An axis is a few comparisons (`noise_search.compare`) with a parameter that differs, and which curves are drawn of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from noise_search import RandomSearch, SearchOverPaths, ZeroOrderSearch
from noise_search.shapes import small_flow

GFLOPS = {"shapes-flow": 0.3824, "shapes-flow-small": 0.0962}
"""Of one NFE: two rows, as guidance asks for; by `python notebooks/paper/cost.py`."""


def _own_algorithm(run: str, algorithm: str) -> str | None:
    return algorithm


def _own_run(run: str, algorithm: str) -> str | None:
    return run


@dataclass(frozen=True)
class Axis:
    """One experiment.

    Attributes:
        title: of its figure.
        runs: arguments of `compare`, by name of the run.
        curve: to which curve a run's algorithm belongs, given both names; None leaves it out.
        measures: what is drawn, a panel each.
        cost: x of a curve's point, given run and budget; NFE by default.
        unit: of x.
        baseline: the curve that the others are held against in pairs of equal prompt, noise and budget; "" for none.
    """

    title: str
    runs: Mapping[str, Mapping[str, Any]]
    curve: Callable[[str, str], str | None] = _own_algorithm
    measures: tuple[str, ...] = ("clip", "oracle")
    cost: Callable[[str, int], float] = lambda run, budget: budget
    unit: str = "NFE"
    baseline: str = ""


def _steps(model: str) -> Axis:
    """Denoising steps alone, against search at the model's own 20 steps (section 1 and figure 1)."""
    counts = (2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100, 200)
    alone = {f"{n} steps": {"steps": n, "candidates": (1,), "algorithms": ["random"]} for n in counts}
    search = {"random search": {"candidates": (1, 2, 4, 8, 16, 32, 64), "algorithms": ["random"]}}
    return Axis(
        f"Denoising steps alone against random search, {model}",
        {name: {"model": model, **one} for name, one in (alone | search).items()},
        lambda run, algorithm: run if run in search else "denoising steps alone",
    )


def _algorithms(model: str) -> Axis:
    """Random, zero-order and path search from 4 to 256 candidates (figure 6, table 2)."""
    runs = {"all": {"model": model, "candidates": (4, 16, 64, 256)}}
    return Axis(f"Three algorithms, {model}", runs, baseline="random")


def _algorithms_by(model: str, name: str) -> Axis:
    """The three algorithms at 4 and 16 candidates by a verifier or the ensemble, the paper's of ranks (table 2)."""
    verifiers = ["clip", "aesthetic"] if name == "ensemble" else [name]
    judges = [one for one in ("clip", "aesthetic", "oracle") if one not in verifiers]
    asked = {"model": model, "verifier": verifiers, "ensemble": "mean-rank", "judges": judges}
    measures = ("clip", "aesthetic", "oracle")
    runs = {"all": {**asked, "candidates": (4, 16)}}
    return Axis(f"Three algorithms by {name}, {model}", runs, measures=measures, baseline="random")


def _verifiers() -> Axis:
    """What is searched by against what it is measured with (tables 1 and 2, figure 8)."""
    measures = ("clip", "aesthetic", "vlm", "oracle")
    searched = {**{one: [one] for one in measures}, "clip and aesthetic": ["clip", "aesthetic"]}
    runs = {
        name: {
            "verifier": verifiers,
            "judges": [one for one in measures if one not in verifiers],
            "candidates": (4, 16, 96),
            "algorithms": ["random"],
        }
        for name, verifiers in searched.items()
    }
    return Axis(
        "What random search is guided by, and what that does to other scores",
        runs,
        lambda run, algorithm: f"by {run}" if algorithm == "random" else None,
        measures,
        baseline="by clip",
    )


def _drafts() -> Axis:
    """Steps of a candidate during the search, the winner rendered with 40 (section 5.4 and figure 10)."""
    final = {"steps": 40, "algorithms": ["random"]}
    budgets = (160, 320, 640, 1280)
    drafted = {f"{n} steps": {**final, "draft_steps": n, "budgets": budgets} for n in (4, 6, 10, 20)}
    return Axis(
        "NFE per candidate during the search, the winner rendered with 40 steps",
        {**drafted, "40 steps": {**final, "budgets": budgets}},
        _own_run,
        baseline="40 steps",
    )


def _neighbours() -> Axis:
    """Zero-order search with 2, 4 and 8 neighbours, and with nearer and further ones (section 5.3, figure 12)."""
    near = {f"N={n}, cosine .95": ZeroOrderSearch(neighbours=n) for n in (2, 4, 8)}
    far = {f"N=4, cosine {str(c)[1:]}": ZeroOrderSearch(cosine=c) for c in (0.5, 0.8, 0.99)}
    return Axis("Zero-order search: neighbours and their cosine to the pivot", _one(near | far), baseline="random")


def _paths() -> Axis:
    """Search over paths with 1, 2 and 4 paths and ever more branches (section 5.3), and with fewer rounds."""
    wide = {f"N={n}": SearchOverPaths(paths=n) for n in (1, 2, 4)}
    short = {"N=2, one round": SearchOverPaths(rounds=1)}
    return Axis("Search over paths: paths N; branches M grow with NFE", _one(wide | short), baseline="random")


def _one(algorithms: Mapping[str, Any]) -> dict[str, Any]:
    return {"all": {"algorithms": {"random": RandomSearch(), **algorithms}, "candidates": (4, 8, 16, 32)}}


def _sizes() -> Axis:
    """A small model with search against a larger one with and without (section 5.5, figure 11)."""
    counts = {"candidates": (1, 2, 4, 8, 16, 32, 64), "algorithms": ["random"]}
    return Axis(
        "A small model with search against a larger one",
        {"shapes-flow": counts, "shapes-flow-small": {**counts, "model": small_flow}},
        _own_run,
        cost=lambda run, budget: budget * GFLOPS[run],
        unit="GFLOP",
    )


def _guidance() -> Axis:
    """Search at several guidance scales (the paper's cfg 1.0, 1.35 and 1.5)."""
    one = {"candidates": (1, 2, 4, 8, 16, 32), "algorithms": ["random"]}
    runs = {f"guidance {scale:g}": {**one, "guidance": scale} for scale in (1.0, 1.5, 2.5, 4.0, 6.0)}
    return Axis("Guidance scale", runs, _own_run, baseline="guidance 2.5")


AXES: Mapping[str, Callable[[], Axis]] = {
    "steps-flow": lambda: _steps("shapes-flow"),
    "steps-ddim": lambda: _steps("shapes-ddim"),
    "algorithms-flow": lambda: _algorithms("shapes-flow"),
    "algorithms-ddim": lambda: _algorithms("shapes-ddim"),
    **{
        f"three-{model}-{verifier}": partial(_algorithms_by, f"shapes-{model}", verifier)
        for model in ("flow", "ddim")
        for verifier in ("clip", "aesthetic", "ensemble")
    },
    "verifiers": _verifiers,
    "drafts": _drafts,
    "neighbours": _neighbours,
    "paths": _paths,
    "sizes": _sizes,
    "guidance": _guidance,
}
