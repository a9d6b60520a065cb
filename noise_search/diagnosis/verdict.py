"""From the numbers to a verdict: is a gain real, and what speaks against it?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from noise_search.diagnosis.checks import Heldout, Rescoring, WrongPrompts
from noise_search.diagnosis.noise import NoiseCheck

LEAST_SHARE = 0.5
"""Of the gain that must stay after flip, resize and JPEG, as a median. `reference/algorithms.md` section 9.4 says that
adversarial gains shrink, not by how much. Measured on shapes-flow, 30 prompts, 12 candidates of 8 steps: of 55 searches
with the embedded CLIP and VLM that gained more than half a spread all kept .89 or more; of 20 with a reward for a
checkerboard of single pixels 18 kept less than half, and none more than .64. Smaller gains scatter, and may be lost."""

MOST_WRONG = 0.75
"""Of the gain that may be there under other prompts. Section 9.4 says "must not rise", but a cleaner picture pleases a
little under any prompt: of 34 such searches with the embedded CLIP half showed nothing there, and none more than .52,
while a reward that is blind to the prompt shows 1."""

LEAST_TRANSFER = 0.2
"""Section 9.1: an alarm below half of best-of-N's transfer ratio, which is .36 to .40 among the usual verifiers; and
where a judge falls. One search is one pair of images, on which honest ratios scatter widely: below .2 a judge is taken
not to have moved, below -.2 to have fallen, and where no spread is known the sign counts."""

Status = Literal["no gain", "unknown", "real", "unconfirmed", "doubtful", "not real"]


@dataclass(frozen=True)
class Verdict:
    """Whether a gain is real.

    Attributes:
        status: "no gain"; "unknown": the first image has no score; "real": a held-out judge confirms it, and nothing
            speaks against it; "unconfirmed": nothing speaks against it, but no judge confirms it either; "doubtful":
            something speaks against it; "not real": the held-out judges fall.
        against: what speaks against it, in words.
        confirming: what speaks for it, in words.
    """

    status: Status
    against: tuple[str, ...] = ()
    confirming: tuple[str, ...] = ()


def judged(
    own: float, noise: Sequence[NoiseCheck], rescoring: Rescoring, wrong: WrongPrompts, judges: Sequence[Heldout]
) -> Verdict:
    """The verdict on a winner that isn't the first image, whose gain by its verifiers is `own`, in their spreads."""
    if not math.isfinite(own):
        return Verdict("unknown")
    rising, falling = [one for one in judges if moved(one) > 0], [one for one in judges if moved(one) < 0]
    against = [f"judge {one.name} falls from {one.first:.3g} to {one.winner:.3g}" for one in falling]
    confirming = [f"judge {one.name} rises from {one.first:.3g} to {one.winner:.3g}" for one in rising]
    if own <= 0:
        against.append("on average its verifiers see none")  # a mean of ranks may still rise
    elif rescoring.rounded:
        against.append("nothing of it is left in images of 8 bits")
    if math.isfinite(rescoring.share):
        shrinks = rescoring.share < LEAST_SHARE
        kept = f"{_percent(rescoring.share)} of it stays when the images are slightly changed"
        (against if shrinks else confirming).append(kept)
    if not wrong.skipped and math.isfinite(wrong.share):
        blind = wrong.share > MOST_WRONG
        there = f"{_percent(wrong.share)} of it is there under other prompts"
        (against if blind else confirming).append(there)
    if odd := [one for one in noise if not one.passed]:
        against.append(f"its noise isn't white ({', '.join(f'{one.name} is {one.value:.3g}' for one in odd)})")
    if falling and not rising:
        return Verdict("not real", tuple(against), tuple(confirming))
    status: Status = "doubtful" if against else "real" if rising else "unconfirmed"
    return Verdict(status, tuple(against), tuple(confirming))


def moved(judge: Heldout) -> int:
    """1 where a judge rises with the verifier, -1 where it falls, 0 where it does neither."""
    if math.isfinite(judge.transfer):
        return (judge.transfer >= LEAST_TRANSFER) - (judge.transfer <= -LEAST_TRANSFER)
    return (judge.gain > 0) - (judge.gain < 0)


def _percent(share: float) -> str:
    """A share of a gain in words."""
    return f"{share:.0%}" if share >= 0.005 else "none"
