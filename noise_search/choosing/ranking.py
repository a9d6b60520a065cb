"""Who is best, by how pairs ended: strengths of Bradley and Terry, and the order in which pairs are asked about."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
from jaxtyping import Float

ALL_PAIRS = 6
"""Images up to which every pair is compared: 15 pairs."""
PRIOR = 0.5
"""Wins, and as many losses, against a player of strength 1 that each starts with: whoever lost all has a strength."""
_CLOSE, _ROUNDS = 1e-12, 100_000

Wins = Float[np.ndarray, "player player"]


def bradley_terry(wins: Wins, prior: float = PRIOR) -> Float[np.ndarray, " player"]:
    """Strengths pi for which P(i beats j) = pi_i / (pi_i + pi_j) explains the wins best.

    The MM algorithm of Hunter 2004 (Annals of Statistics 32, 384), with `prior` wins and losses a against a player of
    strength 1 beside those counted:

        pi_i <- (W_i + a) / (sum_j n_ij / (pi_i + pi_j) + 2 a / (pi_i + 1))

    Without a prior only ratios have a meaning, and they exist only where no group of players lost all to the others.

    Args:
        wins: of the row's player over the column's, fractions welcome; 0 on the diagonal.
        prior: a, at least 0.
    """
    games, won = wins + wins.T, wins.sum(1)
    strengths = np.ones(len(wins))
    for _ in range(_ROUNDS):
        weights = (games / (strengths[:, None] + strengths)).sum(1) + 2 * prior / (strengths + 1)
        # of one without a game nothing is known
        after = np.divide(won + prior, weights, out=np.ones(len(wins)), where=weights > 0)
        done = np.abs(after - strengths).max(initial=0) <= _CLOSE * after.max(initial=1)
        strengths = after
        if done:
            break
    return strengths


Match = Callable[[int, int], float | None]
"""How a pair ended: the share of the first, in [0, 1]; None where it isn't told, and the better seed goes on."""


def all_pairs(players: int, match: Match) -> list[int]:
    """Every pair: seeds next to each other first, so that the first few pairs tell something of everyone.

    Returns:
        How many rounds each went through: 0 for all, as nobody is out.
    """
    for one, other in sorted(combinations(range(players), 2), key=lambda pair: (pair[1] - pair[0], pair)):
        match(one, other)
    return [0] * players


def knockout(players: int, match: Match) -> list[int]:
    """Rounds of pairs, the best seed against the worst, of which the winner goes on; a tie goes to the better seed.

    `players` - 1 pairs. Of an odd number the best seed has no opponent.

    Returns:
        How many rounds each went through; the most by the winner alone.
    """
    rounds, alive = [0] * players, list(range(players))
    while len(alive) > 1:
        free = len(alive) % 2
        pairs = [(alive[free + at], alive[-1 - at]) for at in range(len(alive) // 2)]
        won = [other if (share := match(one, other)) is not None and share < 0.5 else one for one, other in pairs]
        alive = sorted([*alive[:free], *won])
        for one in alive:
            rounds[one] += 1
    return rounds
