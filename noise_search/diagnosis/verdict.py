"""From the numbers to a verdict: is a gain real, and what speaks against it?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from noise_search.diagnosis.checks import Rescoring, WrongPrompts
from noise_search.diagnosis.judges import ANOTHER, LEAST_JUDGED, Heldout
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

NO_JUDGE = "no judge was asked"
NO_JUDGE_ADVICE = f"{ANOTHER} than its verifier's, on {LEAST_JUDGED} candidates or more"

Status = Literal["no gain", "real", "doubtful", "not real", "can't tell"]


@dataclass(frozen=True)
class Verdict:
    """Whether a gain is real.

    Attributes:
        status: "no gain"; "real": a held-out judge rises with the verifiers and has the winner in its better half, and
            nothing speaks against the gain; "doubtful": something does; "not real": the judges fall; "can't tell".
        against: what speaks against it, in words.
        confirming: what speaks for it, in words.
        undecided: why judges can't tell, in words.
        advice: what may tell then, in words.
    """

    status: Status
    against: tuple[str, ...] = ()
    confirming: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def judged(
    own: float, noise: Sequence[NoiseCheck], rescoring: Rescoring, wrong: WrongPrompts, judges: Sequence[Heldout]
) -> Verdict:
    """The verdict on a winner that isn't the first image, whose gain by its verifiers is `own`, in their spreads."""
    if not math.isfinite(own):
        return Verdict("can't tell", undecided=("the first image has no score",))
    able = sum(not one.unable for one in judges)
    rising, falling, still = ([one for one in judges if one.moves(able) == way] for way in (1, -1, 0))
    against = [f"judge {one.name} falls with it ({one.evidence})" for one in falling]
    confirming = [f"judge {one.name} rises with it ({one.evidence})" for one in rising]
    undecided = _undecided(still) if judges else (NO_JUDGE,)
    advice = tuple(dict.fromkeys(one.more for one in still)) if judges else (NO_JUDGE_ADVICE,)
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
    status: Status = "doubtful" if against else "real" if rising else "can't tell"
    return Verdict(status, tuple(against), tuple(confirming), undecided, advice)


def _undecided(judges: Sequence[Heldout]) -> tuple[str, ...]:
    """Why these can't tell, each reason once."""
    names: dict[str, list[str]] = {}
    for one in judges:
        names.setdefault(one.undecided, []).append(one.name)
    return tuple(f"judge{'s' * (len(who) > 1)} {', '.join(who)} {why}" for why, who in names.items())


def _percent(share: float) -> str:
    """A share of a gain in words."""
    return f"{share:.0%}" if share >= 0.005 else "none"
