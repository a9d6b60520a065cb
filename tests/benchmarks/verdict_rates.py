"""How often `diagnose()` calls a gain real, or not, of judges with a known rank correlation to the verifier.

Run with `PYTHONPATH=tests python tests/benchmarks/verdict_rates.py [SEARCHES]`; 2,000 of each take some minutes. Prints
shares in percent: searches by random search with all candidates judged, with the best 8 judged only, and with several
judges; then climbs with an unrelated judge, with scores permuted within rounds, as is done, and over the whole climb.
"""

import sys

import numpy as np

from noise_search.diagnosis.judges import RISES_BY_CHANCE, agreement, draw_kind
from tiny.verdicts import climbed, rates

CORRELATIONS = (0, 0.4, 0.6, -0.4, -0.5, -0.6, -0.7, -0.8)


def table(label, searches, judges=1, top_k=None):
    print(f"\n{label}: real / not real, by the rank correlation of judge and verifier, {searches} searches each")
    print(f"{'candidates':>10}" + "".join(f"{rho:>12g}" for rho in CORRELATIONS))
    for count in (8, 12, 16, 24, 32, 64):
        found = [rates(count, (rho,) * judges, top_k, searches) for rho in CORRELATIONS]
        cells = "".join(f"{100 * one['real']:6.1f}/{100 * one['not real']:5.1f}" for one in found)
        print(f"{count:>10}{cells}", flush=True)


def climbs(searches):
    rng = np.random.default_rng(0)
    print("\nclimbs, an unrelated judge: rises within rounds / over the whole climb, %")
    for rounds, neighbours in ((4, 4), (8, 4), (16, 4), (16, 2)):
        found = []
        for _ in range(searches):
            own, (judge,), recipes = climbed(rng, rounds, neighbours)
            kinds, winner = [draw_kind(one) for one in recipes], int(own.argmax())
            told = [agreement(own, judge, winner, draws).rising for draws in (kinds, ())]
            found.append(np.array(told) <= RISES_BY_CHANCE)
        inside, over = 100 * np.mean(found, 0)
        print(f"{rounds:>4} rounds of {neighbours}: {inside:5.1f} /{over:5.1f}", flush=True)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    climbs(count)
    table("all judged, one judge", count)
    table("the first, the best 8 and every new best judged, one judge", count, top_k=8)
    table("all judged, two judges alike", count, judges=2)
