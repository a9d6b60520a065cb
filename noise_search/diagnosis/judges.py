"""Held-out judges on the pool: do they rise where the search's verifiers do, fall there, or neither, beyond chance?

One pair of images says little: of the winner and the first image an unrelated judge says "better" as often as "worse".
So a judge is held against the verifiers on all candidates that it scored: by the rank correlation of both, and by its
place for the winner. How often an unrelated judge has both as high is found by permuting its scores, which is exact
whatever their distribution, with ties, and however the verifiers chose what was judged (the first, the top k and every
new best). Scores are permuted only among draws of one kind, such as fresh noises or neighbours of one pivot: along a
climb two unrelated scores drift, and drifts correlate.

How often that finds what, in percent of 2,000 searches by random search with a gain, with one judge of all candidates,
whose scores are normal like the verifier's and have this rank correlation with them
(`tests/benchmarks/verdict_rates.py`):

                    the judge rises             falls
    rank correlation    0   .4   .6       0   .4   -.4  -.5  -.6  -.7  -.8
    8 candidates        4   22   43       8    1    34   45   57   71   85
    12                  4   32   63       9    1    49   63   76   88   95
    16                  4   42   76       9  0.2    57   73   86   94   98
    24                  4   56   87      10  0.1    68   81   91   96   99
    32                  5   67   92      10    0    75   86   93   97   99

The best are nearer to each other than candidates are, and correlations among them smaller: with 24 candidates of which
the first, the best 8 and every new best are judged, a rank correlation of .4 is found in 14 % instead of 56 %, and one
of -.6 in 46 % instead of 91 %. Two judges of all 16 that err each by itself find those two in 51 and 94 %. A judge that
rises with the verifier on most candidates and falls on the few that please it most is seldom noticed; the winner's
place then keeps the gain from being called real.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from noise_search.results.candidate import number
from noise_search.results.result import SearchResult
from noise_search.words import counted
from samplers.recipe import Recipe
from verifiers.aggregators.ranks import ranks

LEAST_JUDGED = 8
"""Candidates; among fewer even strong judges are missed far more often than found."""

RISES_BY_CHANCE = 0.045
"""How often an unrelated judge may be taken to rise: a little below the 1 in 20 that is promised, so that counts of
searches show no more than that. Of several judges each gets its part (Bonferroni)."""

FALLS_BY_CHANCE = 0.1
"""The same of falling. An alarm may be false more often than a confirmation, and finds more of the hacked gains so."""

MORE = "more candidates, all of them judged"
MORE_PER_ROUND = "more candidates per round, all of them judged"
ANOTHER = "a judge of another family"

_PERMUTATIONS = 999


@dataclass(frozen=True)
class Agreement:
    """How a judge's scores go with the verifiers' over a pool.

    Attributes:
        compared: candidates that are draws of the same kind as another.
        correlation: of their ranks, Spearman's where all are draws of one kind; 0 where the judge scores all alike.
        place: of the winner among all by the judge, 1 is the best; ties share the mean of their places.
        rising: how often an unrelated judge correlates as high and has the winner in its better half; 1 where it isn't
            there.
        falling: how often one correlates as low and has the winner in its worse half.
    """

    compared: int = 0
    correlation: float = math.nan
    place: float = math.nan
    rising: float = 1.0
    falling: float = 1.0


def agreement(own: np.ndarray, judged: np.ndarray, winner: int, draws: Sequence[Hashable] = ()) -> Agreement:
    """Hold a judge's scores `[pool]` against the verifiers' values.

    Args:
        own, judged: finite values, higher is better.
        winner: its index.
        draws: of which kind each candidate is; of one when left out.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, kind in enumerate(draws or (0,) * len(own)):
        groups.setdefault(kind, []).append(index)
    members = list(groups.values())
    values, scores = (_within(x, members) for x in (own, judged))
    order = np.empty((_PERMUTATIONS, len(own)), dtype=int)
    order[:, np.concatenate(members)] = np.concatenate(members)[_orders(tuple(map(len, members)))]
    overall = ranks(judged)
    norm = math.sqrt(float((values @ values) * (scores @ scores)))
    found, chance = scores @ values, scores[order] @ values
    rounding = 1e-9 * max(norm, 1)
    as_high = (chance >= found - rounding) & (overall[order[:, winner]] >= 0.5)
    as_low = (chance <= found + rounding) & (overall[order[:, winner]] <= 0.5)
    return Agreement(
        compared=sum(len(some) for some in members if len(some) > 1),
        correlation=float(found / norm) if norm else 0.0,
        place=float((judged > judged[winner]).sum() + ((judged == judged[winner]).sum() + 1) / 2),
        rising=_share(as_high) if overall[winner] >= 0.5 and norm else 1.0,
        falling=_share(as_low) if overall[winner] <= 0.5 and norm else 1.0,
    )


def _within(x: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Ranks within each group, centred; 0 for what is alone."""
    found = np.zeros(len(x))
    for members in groups:
        if len(members) > 1:
            found[members] = ranks(x[members]) - 0.5
    return found


@lru_cache(maxsize=8)
def _orders(sizes: tuple[int, ...]) -> np.ndarray:
    """Seeded permutations `[_PERMUTATIONS, total]` of indices, within groups of these sizes that lie in a row."""
    rng, ends = np.random.default_rng(0), np.cumsum(sizes)
    found = np.tile(np.arange(ends[-1]), (_PERMUTATIONS, 1))
    for size, end in zip(sizes, ends, strict=True):
        found[:, end - size : end] = rng.permuted(found[:, end - size : end], axis=1)
    return found


def _share(as_far: np.ndarray) -> float:
    """Of the permutations and what was found."""
    return (1 + int(as_far.sum())) / (1 + len(as_far))


@dataclass(frozen=True)
class Heldout:
    """One judge on the pool.

    Attributes:
        name: the judge's.
        winner, first: its scores of them.
        mean: its mean score of what it judged.
        judged: how many that is.
        agreement: with the verifiers on those.
        unable: why it can't tell, whatever it says, in words; or "".
        more: what may tell where it can't, in words.
    """

    name: str
    winner: float
    first: float
    mean: float
    judged: int
    agreement: Agreement
    unable: str = ""
    more: str = MORE

    @property
    def gain(self) -> float:
        """The winner's score minus the first's."""
        return self.winner - self.first

    def moves(self, judges: int = 1) -> int:
        """1 where it rises with the verifiers, -1 where it falls, 0 where neither can be told, as one of many."""
        if self.unable:
            return 0
        rises = self.agreement.rising <= RISES_BY_CHANCE / judges
        return rises - (self.agreement.falling <= FALLS_BY_CHANCE / judges)

    @property
    def evidence(self) -> str:
        """The correlation and the winner's place, in words."""
        return (
            f"rank correlation {self.agreement.correlation:+.2f} among {self.agreement.compared} candidates, "
            f"the winner in place {self.agreement.place:g} of {self.judged}"
        )

    @property
    def undecided(self) -> str:
        """Why it can't tell, in words that follow its name."""
        return self.unable or f"neither rises nor falls with it ({self.evidence})"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        numbers = {name: getattr(self, name) for name in ("winner", "first", "gain", "mean")} | asdict(self.agreement)
        told = {name: number(value) for name, value in numbers.items()}
        return {"name": self.name, **told, "judged": self.judged, "unable": self.unable or None}


def heldout(result: SearchResult) -> tuple[Heldout, ...]:
    """What each judge of a search says of its pool; a verifier of the search isn't held out, and is none of them."""
    whole = [one for one in result.candidates if one.finished and math.isfinite(one.score)]
    families = result.settings.get("families", {})
    scoring = [one for one in result.settings["verifier"]["verifiers"] if one["kind"] == "score"]
    searched = {families.get(key := f"{one['name']}@{one['version']}", key): one["name"] for one in scoring}
    found = []
    for key, scores in result.judges.items():
        if key in result.best.scores:
            continue
        seen = [one for one in whole if math.isfinite(one.judges.get(key, math.nan))]
        kinds = [draw_kind(one.recipe) for one in seen]
        own, judge = (np.array(x) for x in ([one.score for one in seen], [one.judges[key] for one in seen]))
        at = next((index for index, one in enumerate(seen) if one.id == result.best.id), None)
        told = Agreement() if at is None else agreement(own, judge, at, kinds)
        more = (
            MORE
            if len(seen) == len(whole)
            else f"top_k={len(whole)}, which has all {counted(len(whole), 'candidate')} judged"
        )
        unable = ""
        if (family := families.get(key, key)) in searched:
            unable = f"can't confirm {searched[family]}, being of one family with it"
            more = ANOTHER
        elif at is None:
            unable, more = "can't judge the winner", "another judge"
        elif told.compared < LEAST_JUDGED:
            unable = f"can be held against it on {told.compared} candidates, and {LEAST_JUDGED} are needed"
            more = MORE_PER_ROUND if more == MORE and len(seen) >= LEAST_JUDGED else more
        elif np.ptp(judge) == 0:
            unable = "can't tell candidates apart"
        name = key.split("@")[0]
        found.append(Heldout(name, scores["best"], scores["first"], scores["mean"], len(seen), told, unable, more))
    return tuple(found)


def draw_kind(recipe: Recipe) -> Hashable:
    """What a candidate is a draw of: its recipe without the last seed, equal for noises that may be exchanged.

    A mean draws nothing: what it is made of was chosen, and no other noise is of its kind.
    """
    runs = []
    for drawn in recipe.beginnings():
        if "seed" in drawn.last or "parents" in drawn.last:
            break
        runs.append(drawn.last)
    return drawn.before, tuple(entry for entry in drawn.last.entries if entry[0] != "seed"), *runs
