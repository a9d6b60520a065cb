"""What the page shows of a board, as HTML: pictures with their buttons, a curve, questions. Every text is escaped.

What is to be done is said by `data-do` and `data-of` of a button, which the page sends back.
"""

from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from noise_search.studio.board import Picture
from noise_search.studio.desk import UNFINISHED, View
from noise_search.words import one_line

_STATES = {
    "waiting": "waiting for its turn with this model",
    "running": "searching",
    "ended": "done",
    "stopped": "stopped",
    "interrupted": "stopped",
    "failed": "failed",
    "killed": "ended before it was done",
}
_THUMB = (
    '<svg viewBox="0 0 24 24" width="18" height="18" aria-hidden="true"><path d="M3 11h4v10H3zM7 11l4-9c1.7 0 3 1.3 3 3'
    'v4h5.2c1.1 0 1.9 1 1.7 2l-1.6 8.5c-.2.9-1 1.5-1.9 1.5H7"/></svg>'
)
"""Drawn, as not every machine has a font with one."""


def status(view: View) -> str:
    """How far the search is, what it costs, and its curve."""
    best = next((_score(one.score) for one in sorted(view.pictures, key=lambda one: -one.score)), None)
    said = [f'<strong class="ns-state ns-{escape(view.state)}">{_STATES.get(view.state, view.state)}</strong>']
    said += [f"best {best}"] if best else []
    said += [f"{view.nfe} of {view.budget} NFE"] if view.budget else []
    said += [_counted(len(view.pictures), "picture")]
    said += [f"round {len(view.rounds)}"] if len(view.rounds) > 1 else []
    if view.contradictions:
        said.append(f"{_counted(view.contradictions, 'answer')} that contradict each other")
    share = min(view.nfe / view.budget, 1) if view.budget else 0
    alert = f'<p role="alert" class="ns-error">{escape(view.message)}</p>' if view.state == "failed" else ""
    cost = f'<p class="ns-quiet">{escape(view.cost)}</p>' if view.cost and view.state in ("waiting", "running") else ""
    more = ""
    if view.state in UNFINISHED and view.budget:
        more = f'<div class="ns-line">{_button("resume", view.name, "Go on with it")}</div>'
    bar = f'<progress max="1" value="{share:.3f}" aria-label="share of the budget spent"></progress>'
    return (
        f'<section class="ns-status" data-run="{escape(view.name)}">'
        f"<h2>{escape(one_line(view.asked['prompt'], 200))}</h2>"
        f'<p aria-live="polite">{" · ".join(said)}</p>{bar if view.state == "running" else ""}{cost}{alert}'
        f"{more}{curve(view.points)}</section>"
    )


def curve(points: Sequence[tuple[int, float, bool]], width: int = 640, height: int = 110) -> str:
    """Score against NFE: finished candidates, looks on the way, and the best so far."""
    done = [(nfe, score) for nfe, score, finished in points if finished and np.isfinite(score)]
    looks = [(nfe, score) for nfe, score, finished in points if not finished and np.isfinite(score)]
    if len(done) + len(looks) < 2:
        return ""
    scores, right = [score for _, score in (*done, *looks)], max(nfe for nfe, _ in (*done, *looks))
    low, high = min(scores), max(scores)
    span, left, edge = (high - low) or 1.0, 64, 8

    def at(nfe: float, score: float) -> tuple[float, float]:
        x = left + nfe / right * (width - left - edge)
        return round(x, 1), round(height - 18 - (score - low) / span * (height - 18 - edge), 1)

    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in (at(*one) for one in done))
    marks = "".join(f'<circle cx="{x}" cy="{y}" r="2"/>' for x, y in (at(*one) for one in looks))
    line, best = [], -np.inf
    for nfe, score in done:
        if score > best:
            line += ([at(nfe, best)] if np.isfinite(best) else []) + [at(nfe, score)]
            best = score
    line += [at(right, best)] if done else []
    path = " ".join(f"{x},{y}" for x, y in line)
    told = f"score against NFE: from {low:.4g} to {high:.4g} within {right} NFE"
    return (
        f'<svg class="ns-curve" viewBox="0 0 {width} {height}" role="img" aria-label="{told}"><title>{told}</title>'
        f'<g class="ns-look">{marks}</g><g class="ns-dot">{dots}</g><polyline class="ns-best" points="{path}"/>'
        f'<text x="{left - 8}" y="{edge + 6}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{left - 8}" y="{height - 16}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{left}" y="{height - 2}">0</text><text x="{width - edge}" y="{height - 2}" text-anchor="end">'
        f"{right} NFE</text></svg>"
    )


def grid(view: View, picks: Collection[str], shown: Mapping[str, Any] | None = None) -> str:
    """Questions first, if there are any, and all pictures, best first."""
    parts = [rating(view)] if view.question is not None else []
    parts += [pair(view)] if view.pair is not None else []
    parts += [details(view, shown)] if shown is not None else []
    cards = "".join(card(one, rank, one.name in picks, view) for rank, one in enumerate(view.pictures, start=1))
    if cards:
        parts.append(
            f'<ol class="ns-grid{" ns-small" if view.small else ""}" aria-label="pictures, best first">{cards}</ol>'
        )
    elif view.state in ("waiting", "running"):
        parts.append('<p class="ns-empty">Pictures come here as they are finished, best first.</p>')
    return f'<div class="ns-board">{"".join(parts)}</div>'


def card(one: Picture, rank: int, picked: bool, view: View) -> str:
    """A picture, its score and seed, and what can be done with it."""
    seed = f"seed {one.seed}" if one.seed is not None else f"variation {one.name.rpartition('/')[2]}"
    alt = f"{one_line(view.asked['prompt'], 120)}, number {rank}, score {_score(one.score)}, {seed}"
    judged = "".join(_judge(key, value) for key, value in one.judges.items())
    of = escape(one.name)
    thumbs = "".join(
        f'<button type="button" class="ns-icon ns-{way}" data-do="{way}" data-of="{of}" '
        f'aria-pressed="{_flag(one.thumb == value)}" '
        f'aria-label="thumb {way}, number {rank}" title="thumb {way}">{_THUMB}</button>'
        for way, value in (("up", 1), ("down", -1))
    )
    return (
        f'<li class="ns-card" data-picture="{of}"><button type="button" class="ns-pick" data-do="pick" data-of="{of}" '
        f'aria-pressed="{_flag(picked)}" aria-label="{escape("pick " + alt)}"><img src="/picture/{of}.png" '
        f'alt="{escape(alt)}" loading="lazy"><span class="ns-tick" aria-hidden="true">✓</span></button>'
        f'<div class="ns-line"><span class="ns-rank">{rank}</span><b>{_score(one.score)}</b>{judged}'
        f'<span class="ns-quiet">{seed}</span></div><div class="ns-line ns-acts">{thumbs}'
        f'<button type="button" class="ns-text" data-do="show" data-of="{of}">Details</button>'
        f'<a class="ns-text" href="/picture/{of}.png" download="{of.replace("/", "-")}.png" '
        f'aria-label="download number {rank}">PNG</a></div></li>'
    )


def _judge(key: str, value: float) -> str:
    name = key.partition("@")[0]
    if not np.isfinite(value):
        return ""
    told = ("✓" if value >= 1 else "✗") if name == "oracle" and value in (0, 1) else f"{value:.3g}"
    return f'<span class="ns-judge" title="judge {escape(name)}: {value:.4g}">{escape(name)} {told}</span>'


def details(view: View, about: Mapping[str, Any]) -> str:
    """All that is known of a picture."""
    of = escape(about["name"])
    rows = [("made of", about["words"], ""), ("cost", f"{about['nfe']} NFE of its round until it was done", "")]
    rows += [(f"score {key.partition('@')[0]}", f"{value:.4f}", key) for key, value in about["scores"].items()]
    rows += [(f"judge {key.partition('@')[0]}", f"{value:.4g}", key) for key, value in about["judges"].items()]
    rows += [("replay", about["replay"], "")] if about.get("replay") else []
    told = "".join(
        f'<dt title="{escape(whole)}">{escape(name)}</dt><dd>{escape(str(value))}</dd>' for name, value, whole in rows
    )
    seed = "" if about["seed"] is None else _button("copy", str(about["seed"]), f"Copy seed {about['seed']}")
    alt, small = f"{one_line(view.asked['prompt'], 120)}, {about['words']}", " ns-small" if view.small else ""
    return (
        f'<section class="ns-details{small}" tabindex="-1" aria-label="details of a picture">'
        f'<img src="/picture/{of}.png" alt="{escape(alt)}"><div><dl>{told}</dl><div class="ns-line">{seed}'
        f"{_button('recipe', about['recipe'], 'Copy recipe')}{_button('replay', of, 'Replay')}"
        f'<a class="ns-button" href="/picture/{of}.png" download="{of.replace("/", "-")}.png">Download PNG</a>'
        f"{_button('hide', of, 'Close')}</div></div></section>"
    )


def pair(view: View) -> str:
    """Two pictures, of which one is to be preferred; nothing tells their scores."""
    assert view.pair is not None
    left, right, count = view.pair
    sides = "".join(
        f'<button type="button" class="ns-side" data-do="prefer" data-of="{side}|{escape(left)}|{escape(right)}">'
        f'<img src="/picture/{escape(name)}.png" alt="picture {letter} of two"><span>{letter} is better</span></button>'
        for side, name, letter in (("left", left, "A"), ("right", right, "B"))
    )
    others = "".join(
        f'<button type="button" class="ns-button" data-do="prefer" data-of="{said}|{escape(left)}|{escape(right)}">'
        f"{words}</button>"
        for said, words in (("tie", "Neither"), ("enough", "Enough"))
    )
    return (
        f'<section class="ns-ask{" ns-small" if view.small else ""}" aria-label="which is better">'
        f"<h3>Which is better? <small>{_counted(count, 'question')} left, each pair in both orders</small></h3>"
        f'<div class="ns-sides">{sides}</div><div class="ns-line">{others}</div></section>'
    )


def rating(view: View) -> str:
    """The image that a search waits for a person to rate."""
    marks = "".join(
        f'<button type="button" class="ns-button" data-do="rate" data-of="{view.question}|{value}" '
        f'aria-label="{value} of 10">{value}</button>'
        for value in range(11)
    )
    return (
        f'<section class="ns-ask{" ns-small" if view.small else ""}" aria-label="rate this picture">'
        f"<h3>How good is this one? <small>0 is worst, 10 is best; the search goes on from what you say</small></h3>"
        f'<img class="ns-question" src="/question/{escape(view.name)}.png?{view.question}" '
        f'alt="the picture to rate, number {view.question}"><div class="ns-line">{marks}</div></section>'
    )


def runs(rows: Sequence[Mapping[str, Any]]) -> str:
    """Boards on the disk, to open and to export."""
    if not rows:
        return '<p class="ns-quiet">No runs yet.</p>'
    lines = []
    for row in rows:
        name, told = escape(row["name"]), [_STATES.get(row["state"], row["state"])]
        told += [] if row["best"] is None else [f"best {_score(row['best'])}"]
        told += [f"{row['rounds']} rounds"] if row["rounds"] > 1 else []
        lines.append(
            f'<li><button type="button" class="ns-text ns-open" data-do="open" data-of="{name}"><b>{name}</b> '
            f"{escape(one_line(row['prompt'], 70))}</button>"
            f'<span class="ns-quiet">{escape(", ".join(told))}</span>'
            f'<a class="ns-text" href="/export/{name}.zip" download aria-label="export board {name}">Export</a></li>'
        )
    return f'<ul class="ns-runs">{"".join(lines)}</ul>'


def error(line: str) -> str:
    """A line at its field; nothing where all is well."""
    return f'<p role="alert" class="ns-error">{escape(line)}</p>' if line else ""


def quiet(line: str) -> str:
    """A line that may be overlooked."""
    return f'<p class="ns-quiet">{escape(line)}</p>'


def _button(do: str, of: str, words: str) -> str:
    return f'<button type="button" class="ns-button" data-do="{do}" data-of="{escape(of)}">{escape(words)}</button>'


def _score(value: float) -> str:
    return f"{value:#.4g}".rstrip(".")


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)
