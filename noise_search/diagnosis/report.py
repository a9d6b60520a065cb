"""What a diagnosis hands back: numbers, a table, and one sentence."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noise_search.diagnosis.checks import Gain, Rescoring, WrongPrompts
from noise_search.diagnosis.judges import FALLS_BY_CHANCE, LEAST_JUDGED, RISES_BY_CHANCE, Heldout
from noise_search.diagnosis.noise import NORM_LIMIT, RISK, NoiseCheck, NoiseReport
from noise_search.diagnosis.verdict import LEAST_SHARE, MOST_WRONG, Verdict
from noise_search.results.candidate import number
from noise_search.words import columns, printable, table


@dataclass(frozen=True)
class Diagnosis:
    """Whether the gain of one search is real.

    Attributes:
        prompt: of the search.
        winner, first: ids of the two candidates.
        first_name: what the first image is, in words: "one sample".
        verdict: the status, what speaks against the gain, and for it.
        own: the gain by the verifiers, as the search recorded it.
        noise: the noises' statistics.
        rescoring: what stays of the gain in changed images.
        wrong: what the winner gains under other prompts.
        judges: the held-out judges.
        spreads: by verifier key, standard deviation of the finished candidates' scores, where 4 or more tell one.

    Example:
        found = noise_search.diagnose(result)
        print(found.sentence)
        print(found)
    """

    prompt: str
    winner: int
    first: int
    first_name: str
    verdict: Verdict
    own: Gain
    noise: NoiseReport
    rescoring: Rescoring
    wrong: WrongPrompts
    judges: tuple[Heldout, ...]
    spreads: Mapping[str, float]

    @property
    def real(self) -> bool:
        """Whether the gain is called real: a held-out judge rises with it, and nothing speaks against it."""
        return self.verdict.status == "real"

    @property
    def sentence(self) -> str:
        """Whether the gain is real and what speaks against it, in one sentence."""
        if self.verdict.status == "no gain":
            return f"There is no gain: the winner is the first candidate ({self.first_name})."
        if not math.isfinite(self.own.total):
            return f"Whether there is a gain can't be told: the first candidate ({self.first_name}) has no score."
        gain = _listed([f"{self.own.by_key[key]:+.3g} by {key.split('@')[0]}" for key in self.own.units])
        if self.verdict.status == "can't tell":
            why, advice = "; ".join(self.verdict.undecided), " or ".join(self.verdict.advice)
            return f"Whether the gain of {gain} is real can't be told: {why}; to tell, take {advice}{self._untested}."
        against, confirming = _listed(self.verdict.against), _listed(self.verdict.confirming)
        why = confirming if self.real else f"{against}, though {confirming}" if confirming else against
        return f"The gain of {gain} is {self.verdict.status}: {why}{self._untested}."

    @property
    def _untested(self) -> str:
        untested = ["changed images"] if not self.rescoring.shares and not self.rescoring.rounded else []
        untested += ["other prompts"] if self.wrong.skipped else []
        untested += ["noise"] if self.noise.skipped else []
        return f"; not tested: {', '.join(untested)}" if untested else ""

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table: what was tested, the number, what it is held against, and what that says."""
        rows = [self._own(key, gain) for key, gain in self.own.by_key.items()]
        rows += [row for one in self.judges for row in self._judge(one)] or [("judges", "-", "", "none was asked")]
        rows += [(_changed(name), _percent(share), "", "") for name, share in self.rescoring.shares.items()]
        rows += [(_changed(name), "-", "", f"skipped: {why}") for name, why in self.rescoring.skipped.items()]
        if self.rescoring.shares:
            says = _says(not self.rescoring.share < LEAST_SHARE)
            rows.append(("median of these", _percent(self.rescoring.share), f"at least {LEAST_SHARE:.0%}", says))
        tried = _percent(self.wrong.share), f"at most {MOST_WRONG:.0%}", _says(not self.wrong.share > MOST_WRONG)
        skipped = "-", "", f"skipped: {self.wrong.skipped}"
        rows.append(("gain under other prompts", *(skipped if self.wrong.skipped else tried)))
        rows += [self._noise(one) for one in self.noise.winner]
        rows += [("noise", "-", "", f"skipped: {self.noise.skipped}")] if self.noise.skipped else []
        rows += [("noise", "", "", self.noise.note)] if self.noise.note else []
        return rows

    def _own(self, key: str, gain: float) -> tuple[str, str, str, str]:
        scores = f"{self.own.first[key]:.4g} -> {self.own.winner[key]:.4g}"
        spreads = f" ({gain / self.spreads[key]:.1f} sd)" if key in self.spreads else ""
        return key.split("@")[0], f"{gain:+.4g}", scores + spreads, ""

    def _judge(self, judge: Heldout) -> list[tuple[str, str, str, str]]:
        able = sum(not one.unable for one in self.judges)
        says = {1: "rises", 0: "can't tell", -1: "falls"}[judge.moves(able)]
        scores = f"{judge.first:.4g} -> {judge.winner:.4g}, mean {judge.mean:.4g}"
        pool = f"{judge.agreement.compared} compared, place {judge.agreement.place:g} of {judge.judged}"
        return [
            (f"judge {judge.name}", f"{judge.gain:+.4g}", scores, says),
            ("rank correlation with it", f"{judge.agreement.correlation:+.2f}", pool, judge.unable),
        ]

    def _noise(self, check: NoiseCheck) -> tuple[str, str, str, str]:
        first = next((f", first {one.value:.3f}" for one in self.noise.first if one.name == check.name), "")
        off = f"{check.expected:g} ({check.z:+.1f} sd{first})"
        return f"noise: {check.name}", f"{check.value:.3f}", off, _says(check.passed)

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain JSON; what isn't a number is null."""
        return {
            "prompt": self.prompt,
            "winner": self.winner,
            "first": self.first,
            "status": self.verdict.status,
            "real": self.real,
            "sentence": self.sentence,
            "against": list(self.verdict.against),
            "confirming": list(self.verdict.confirming),
            "undecided": list(self.verdict.undecided),
            "advice": list(self.verdict.advice),
            "own": {
                key: {
                    "winner": number(self.own.winner[key]),
                    "first": number(self.own.first[key]),
                    "gain": number(gain),
                    "spread": self.spreads.get(key),
                }
                for key, gain in self.own.by_key.items()
            },
            "noise": self.noise.to_json(),
            "rescoring": self.rescoring.to_json(),
            "wrong_prompts": self.wrong.to_json(),
            "judges": [one.to_json() for one in self.judges],
            "limits": {
                "least_share": LEAST_SHARE,
                "most_wrong": MOST_WRONG,
                "least_judged": LEAST_JUDGED,
                "rises_by_chance": RISES_BY_CHANCE,
                "falls_by_chance": FALLS_BY_CHANCE,
                "norm_sd": NORM_LIMIT,
                "noise_risk": RISK,
            },
        }

    def __str__(self) -> str:
        """The sentence, and under it the table, whose last two columns share one where a terminal is narrow."""
        rows: list[tuple[str, ...]] = list(self.rows())
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        if sum(widths) + 2 * 3 > columns():
            room = max(columns() - widths[0] - widths[1] - 2 * 2, 16)
            folded: list[tuple[str, ...]] = []
            for name, value, *told in rows:
                first, *rest = textwrap.wrap(", ".join(filter(None, told)), room) or [""]
                folded += [(name, value, first), *(("", "", line) for line in rest)]
            rows = folded
        return printable("\n".join([self.sentence, table(rows, "<" * len(rows[0]))]))

    def __repr__(self) -> str:
        return f"Diagnosis({self.prompt!r:.80}: {self.verdict.status})"


def _listed(parts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _changed(name: str) -> str:
    return "gain in changed images" if name == "all" else f"gain after {name}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "-"


def _says(passed: bool) -> str:
    return "ok" if passed else "speaks against it"
