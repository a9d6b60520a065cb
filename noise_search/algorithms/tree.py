"""Tree search over trajectories: new ones leave from states of earlier ones, by what those before led to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from noise_search.algorithms.base import Evaluation, Job, Plan, Problem, Terms
from noise_search.arguments import check_between, check_counts, check_flags, check_given, check_numbers
from samplers.space import NoiseSpace
from samplers.state import State
from samplers.transition import Ancestral, Deterministic, Mix, Transition

SELECT = ("uct", "boltzmann")


@dataclass(frozen=True)
class TreeSearch:
    """Diffusion tree search, DTS* (Jain et al. 2025, arXiv 2506.20701), and MCTS with process rewards.

    The tree's nodes are states of trajectories at a few grid points; the root's children are fresh noises. A descent
    goes from the root to a node that may still grow, which has fewer children than `width` n^`growth` after n descents
    through it (progressive widening). There a new child leaves the trajectory by fresh noise and runs to the end, and
    every state on its way becomes a node. So a candidate costs the steps that are left where it leaves. What an image
    scored is backed up to all states before it by the soft mean of their children,

        v = (1 / lam) log mean exp(lam v_child),   lam = sharpness / standard deviation of the scores so far.

    Only finished images count in it. `select` says how a descent goes on: "uct" to the child with the highest
    v + explore sqrt(ln n / n_child), both in those standard deviations (DTS*, a search for the best); "boltzmann" to a
    child drawn by exp(lam v), so that descents through a large tree draw from the model's distribution tilted by
    exp(lam score) (DTS). A descent that ends at a finished image only counts there; after 1,000 of these in a row the
    root grows all the same.

    With `process` a child only runs to the next of the grid points, where the score of its x0 prediction, a process
    reward, stands for its image's until a descent comes there again and runs it on. So trajectories are begun, judged
    on the way and finished as descents come back; each grid point's predictions are shifted by what they lack, in the
    mean of those that went on. In the end the best open nodes are finished, by what `finish` trajectories cost. That is
    MCTS as a language model's steps are searched (Snell et al. 2024, arXiv 2408.03314), with states for steps.

    Without `process` candidates don't depend on the budget, and what is left below a candidate's price isn't spent.
    A model whose trajectories can't branch has fresh noises alone, which is random search.

    Attributes:
        select: "uct" or "boltzmann".
        process: whether x0 predictions judge nodes.
        points: shares of the steps, in (0, 1), at which trajectories have nodes; None for .1, .2 and .3, or .2, .35
            and .5 with `process`, for which two lie two steps apart at least: a prediction stems from before the last
            step's noise.
        width, growth: of progressive widening, C > 0 and a in (0, 1].
        sharpness: of the soft mean and of Boltzmann selection, in 1 / standard deviations; above 0.
        explore: of UCT, 0 or more.
        eta: how a branch goes on: None for one step of fresh noise alone, and the ODE; in (0, 1] for DDIM's eta in
            each of its steps (1 is ancestral sampling). Fresh noises follow the ODE until something branches.
        parallel: descents of a round, each of which counts for the next before its image is there, so that batches and
            workers are filled; None for 4, or with `literal` 1, the published order.
        finish: how many whole trajectories are held back for the end, with `process`.
        literal: the published tree: a node at every grid point, ancestral steps (eta 1) everywhere, and no plain sample
            first. The paper's constants of widening and exploration aren't known here.

    Raises:
        ValueError: a number out of range, another `select`, or what the published tree doesn't have.
        TypeError: a number or flag of another type.

    Example:
        result = noise_search.search("a red circle", algorithm=TreeSearch(), nfe=640)
    """

    name: ClassVar[str] = "dts"
    whole_calls: ClassVar[bool] = False

    select: str = "uct"
    process: bool = False
    points: tuple[float, ...] | None = None
    width: float = 1.0
    growth: float = 0.8
    sharpness: float = 3.0
    explore: float = 1.0
    eta: float | None = None
    parallel: int | None = None
    finish: int = 2
    literal: bool = False

    def __post_init__(self) -> None:
        check_flags(process=self.process, literal=self.literal)
        for name in ("width", "growth", "sharpness", "explore", "finish"):
            check_given(**{name: getattr(self, name)})
        check_counts(parallel=self.parallel, finish=self.finish)
        if self.select not in SELECT:
            raise ValueError(f"select={self.select!r:.40} must be one of {', '.join(SELECT)}")
        check_between("width", self.width, 0, math.inf)
        check_between("sharpness", self.sharpness, 0, math.inf)
        check_numbers(growth=self.growth, explore=self.explore, eta=self.eta)
        if not 0 < self.growth <= 1:
            raise ValueError(f"growth={self.growth!r} must be above 0 and at most 1")
        if not 0 <= self.explore < math.inf:
            raise ValueError(f"explore={self.explore!r} must be a number from 0")
        if self.eta is not None and not 0 < self.eta <= 1:
            raise ValueError(f"eta={self.eta!r} must be above 0 and at most 1; leave it out for one fresh step")
        if self.points is not None:
            if not isinstance(self.points, tuple | list) or not self.points:
                raise TypeError(f"points={self.points!r:.40} must be shares of the steps, such as [0.2, 0.4]")
            for one in self.points:
                check_given(points=one)
                check_between("points", one, 0, 1)
            object.__setattr__(self, "points", tuple(self.points))
        if self.literal and (self.process or self.points is not None or self.eta not in (None, 1)):
            raise ValueError(
                "literal=True is the published tree, with a node at every grid point, ancestral steps and no process "
                "rewards: leave points, eta and process out"
            )

    @property
    def anytime(self) -> bool:
        """Without process rewards candidates don't depend on the budget."""
        return not self.process

    @property
    def baseline(self) -> bool:
        """The published tree takes no plain steps."""
        return not self.literal

    def plan(self, problem: Problem) -> Plan:
        """Yield rounds of children, one for each descent; at last, with process rewards, the best that are open."""
        tree, end = Tree(self, problem), problem.space.end
        while not self.process or problem.nfe_left >= self.finish * end:
            at_once = self.parallel or (1 if self.literal else _AT_ONCE)
            affordable = problem.nfe_left // end if self.process else at_once
            children = [tree.descend() for _ in range(min(at_once, affordable))]
            tree.grow(children, (yield [one.job for one in children]))
        while children := tree.closing():
            tree.grow(children, (yield [one.job for one in children]))
        if (more := problem.nfe_left // end) > 0:
            yield Job(problem.fresh(more), end)

    def describe(self, terms: Terms) -> dict[str, Any]:
        """Where trajectories have nodes, as plain JSON."""
        return {"steps": terms.space.end, "points": list(self.nodes_at(terms.space, terms.model.can_mix))}

    def nodes_at(self, space: NoiseSpace, can_mix: bool = True) -> tuple[int, ...]:
        """Grid points at which trajectories have nodes."""
        if not can_mix:
            return ()
        if self.literal:
            return tuple(range(space.end))
        shares = self.points or (_PROCESS_POINTS if self.process else _POINTS)
        found = list[int]()
        for at in sorted({round(share * space.end) for share in shares} & set(range(1, space.end))):
            if not self.process or not found or at - found[-1] > 1:
                found.append(at)
        return tuple(found)


_AT_ONCE = 4
_COUNTED = 1000
"""Descents in a row that may end at finished images."""
_POINTS, _PROCESS_POINTS = (0.1, 0.2, 0.3), (0.2, 0.35, 0.5)


@dataclass(frozen=True)
class MonteCarloTreeSearch(TreeSearch):
    """`TreeSearch` with process rewards: begun trajectories are judged by x0 predictions, and the promising run on."""

    name: ClassVar[str] = "mcts"

    process: bool = True


@dataclass(eq=False)
class Node:
    """A state of a trajectory, or its finished image.

    Attributes:
        step: its grid point; -1 of the root.
        state: one row; None at the root and of an image, from which nothing goes on.
        parent, children: of it.
        own: whether it only goes on from its parent, without new noise.
        score: its place among the scores of its grid point; None where it has none of its own.
        visits: descents through it, those that aren't back yet among them.
        waiting: children that are on their way.
        value: backed up, in standard deviations; NaN before anything is known, and where all failed.
    """

    step: int
    state: State | None = None
    parent: "Node | None" = None
    own: bool = False
    score: int | None = None
    children: list["Node"] = field(default_factory=list)
    visits: int = 0
    waiting: int = 0
    value: float = math.nan

    @property
    def path(self) -> "list[Node]":
        """From the root to it."""
        return [self] if self.parent is None else [*self.parent.path, self]

    @property
    def plain(self) -> bool:
        """Whether no branch led to it."""
        return all(one.own for one in self.path[2:])


@dataclass(frozen=True)
class Child:
    """A node's next child on its way.

    Attributes:
        node: its parent.
        own: whether the parent's trajectory only goes on.
        job: what brings it.
    """

    node: Node
    own: bool
    job: Job


class Tree:
    """The tree of one search.

    Args:
        asked: the options.
        problem: whose trajectories they are.

    Attributes:
        nodes: in the order in which they came, the root first.
    """

    def __init__(self, asked: TreeSearch, problem: Problem) -> None:
        self.asked, self.problem = asked, problem
        self.levels = asked.nodes_at(problem.space, problem.model.can_mix)
        self.nodes = [Node(-1)]
        self._scored: dict[int, Evaluation] = {}  # by grid point

    def descend(self) -> Child:
        """The child that is due where a descent ends; the nodes that it passes are visited."""
        for _ in range(_COUNTED):
            node = self.nodes[0]
            while node.children and not self._grows(node):
                node = self._chosen(node)
            for one in node.path:
                one.visits += 1
            if node.state is not None or node.parent is None:
                return self._child(node)
        return self._child(self.nodes[0])

    def closing(self) -> list[Child]:
        """The best nodes that nothing went on from, as many as can be finished; none without process rewards."""
        end, left = self.problem.space.end, self.problem.nfe_left
        found = []
        for node in sorted(self.nodes, key=lambda node: -np.nan_to_num(node.value, nan=-np.inf)):
            if node.state is not None and not node.children and end - node.step <= left:
                left -= end - node.step
                node.waiting += 1
                found.append(Child(node, True, Job(node.state, end, transition=self._steps(node, True, end))))
        return found

    def grow(self, children: Sequence[Child], found: Sequence[Evaluation]) -> None:
        """Hang what came back under its nodes, and back it up."""
        for child, one in zip(children, found, strict=True):
            self._hang(child, one)
        self.back_up()

    def _child(self, node: Node) -> Child:
        space, begun = self.problem.space, node.state
        own = begun is not None and not node.children and not node.waiting
        node.waiting += 1
        if begun is None:
            begun = self.problem.fresh(1)
        elif not own:
            begun = space.branch(begun, self.problem.seeds(1))
        later = (at for at in self.levels if at > begun.step)
        stop = next(later, space.end) if self.asked.process else space.end
        keep = tuple(at for at in self.levels if begun.step < at < stop)
        return Child(node, own, Job(begun, stop, keep=keep, transition=self._steps(node, own, stop)))

    def _steps(self, node: Node, own: bool, stop: int) -> tuple[Transition, ...] | None:
        """How a child runs: by the sampler's own steps, or by those of a branch."""
        eta, count = 1.0 if self.asked.literal else self.asked.eta, stop - max(node.step, 0)
        fresh = node.parent is None
        if eta is None:
            return None if own or fresh else (Mix(0.0), *[Deterministic()] * (count - 1))
        plain = not self.asked.literal and (fresh or (own and node.plain))
        return None if plain else (Ancestral(eta),) * count

    def _hang(self, child: Child, found: Evaluation) -> None:
        """The states that a child passed, from its noise on, and its image, or where it stopped."""
        node, own, job = child.node, child.own, child.job
        node.waiting -= 1
        passed = {job.states.step: job.states} if 0 in self.levels and node.parent is None else {}
        for at, state in sorted({**passed, **found.kept, job.stop: found.states}.items()):
            new = Node(at, None if at == self.problem.space.end else state, node, own, visits=1)
            node.children.append(new)
            self.nodes.append(new)
            node, own = new, True
        before = self._scored.get(node.step)
        scores = replace(found, states=found.states[[]], kept={})  # states are in the nodes
        node.score = 0 if before is None else len(before)
        self._scored[node.step] = scores if before is None else Evaluation.cat([before, scores])

    def back_up(self) -> None:
        """Every value anew, from the images to the root: with each image the scale changes a little."""
        values = self._values()
        scale = _spread(values.get(self.problem.space.end, [])) or _spread(np.concatenate([*values.values()])) or 1.0
        for node in reversed(self.nodes):
            if node.children:
                known = np.array([child.value for child in node.children])
                node.value = soft_mean(known[np.isfinite(known)], self.asked.sharpness)
            elif node.score is not None:
                node.value = float(values[node.step][node.score]) / scale

    def _grows(self, node: Node) -> bool:
        """Whether it has fewer children than are due by the descent that comes."""
        able = node.state is not None or node.parent is None
        due = self.asked.width * (node.visits + 1) ** self.asked.growth
        return able and len(node.children) + node.waiting < due

    def _chosen(self, node: Node) -> Node:
        values = np.array([child.value for child in node.children])
        values = np.where(np.isfinite(values), values, -np.inf)
        if not np.isfinite(values).any():
            values = np.zeros(len(values))
        if self.asked.select == "boltzmann":
            weights = np.exp(self.asked.sharpness * (values - values.max()))
            return node.children[int(self.problem.rng.choice(len(weights), p=weights / weights.sum()))]
        visits = np.array([child.visits for child in node.children])
        bonus = self.asked.explore * np.sqrt(math.log(node.visits + 1) / visits)
        return node.children[int(np.argmax(values + bonus))]

    def _values(self) -> dict[int, np.ndarray]:
        """What each score is worth by grid point; predictions less what they lack, on average, of those that follow."""
        worth = {at: self.problem.values(scores) for at, scores in self._scored.items()}
        points = sorted(worth, reverse=True)
        for at, later in zip(points[1:], points, strict=False):
            pairs = [
                worth[later][node.score] - worth[at][node.parent.score]
                for node in self.nodes
                if node.own and node.step == later and node.score is not None and node.parent is not None
                if node.parent.step == at and node.parent.score is not None
            ]
            known = [one for one in pairs if np.isfinite(one)]
            worth[at] = worth[at] + (float(np.mean(known)) if known else 0.0)
        return worth


def _spread(values: "Sequence[float] | np.ndarray") -> float:
    finite = np.asarray(values)[np.isfinite(values)]
    return float(finite.std()) if len(finite) > 1 else 0.0


def soft_mean(values: "Sequence[float] | np.ndarray", sharpness: float) -> float:
    """(1 / lam) log mean exp(lam v): the mean for a small lam, the largest for a large one; NaN of none."""
    if len(values) == 0:
        return math.nan
    most = float(np.max(values))
    if not math.isfinite(most):
        return math.nan
    return most + math.log(float(np.mean(np.exp(sharpness * (np.asarray(values) - most))))) / sharpness
