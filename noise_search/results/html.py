"""What notebooks show of a result: pictures as data URLs, texts escaped, colours taken from the page."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from noise_search.results.candidate import Candidate
from noise_search.results.data import ResultData
from noise_search.words import counted, printable, short_names

_TOP = 8
LARGE, _SMALL = 320, 256
"""Widths of pictures on the screen, in pixels."""
_LONGEST = 400
_FIGURE = "margin:0;display:inline-block;vertical-align:top;text-align:left"
_QUIET = "opacity:.75;font-size:85%;line-height:1.35"


def result_html(result: ResultData) -> str:
    """One plain sample beside the winner with scores and judges, the top k as thumbnails, and what it cost."""
    title = f'<div style="margin-bottom:6px"><b>{escaped(result.prompt)}</b></div>'
    cost = f"{result.ledger.nfe} of {result.ledger.nfe_budget} NFE, {counted(len(result.candidates), 'candidate')}"
    cost = f"{cost}, {sum(result.ledger.seconds.values()):.1f} s; {escaped(result.stop_reason)}"
    cost = f'<div style="{_QUIET}">{cost}</div>'
    if result.failed:
        return page([title, f"<div>no winner: {escaped(result.failure())}</div>", cost])
    pair = [(result.first_name, result.first)]
    pair += [("winner", result.best)] if result.best.id != result.first.id else []
    if len(pair) == 1:
        pair = [("winner, the plain sample", result.best)]
    large = [_figure(c, LARGE, f"{name}: {result.prompt}", _large_caption(name, c)) for name, c in pair]
    top = result.top(_TOP)
    small = [_figure(c, _SMALL, f"number {i}: {result.prompt}", _caption(i, c)) for i, c in enumerate(top, 1)]
    return page([title, _row(large), _row(small) if len(top) > 1 else "", cost])


def data_url(pixels: np.ndarray, longest: int) -> str:
    """A picture no larger than `longest` pixels, or as it is where that is small: PNG up to 128 pixels, else JPEG."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((longest, longest))
    kind = "PNG" if max(picture.size) <= 128 else "JPEG"
    stream = io.BytesIO()
    picture.save(stream, kind, **({} if kind == "PNG" else {"quality": 88}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def page(parts: Sequence[str]) -> str:
    """Parts of a page in the colours of the page around them."""
    return f'<div style="font-family:sans-serif;color:inherit;background:transparent">{"".join(parts)}</div>'


def _row(figures: Sequence[str]) -> str:
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px;margin-bottom:8px">{"".join(figures)}</div>'


def _figure(candidate: Candidate, width: int, alt: str, caption: str) -> str:
    if candidate.pixels is None:
        return ""
    told = f'<figcaption style="{_QUIET}">{caption}</figcaption>'
    return f'<figure style="{_FIGURE};width:{width}px">{image(candidate.pixels, width, alt)}{told}</figure>'


def image(pixels: np.ndarray, width: int, alt: str) -> str:
    """A picture of that width on the screen."""
    # Screens have two dots to a pixel; a small picture is enlarged without blur.
    crisp = ";image-rendering:pixelated" if pixels.shape[1] < width else ""
    return (
        f'<img src="{data_url(pixels, 2 * width)}" alt="{escaped(alt)}" '
        f'style="width:{width}px;max-width:100%;border:1px solid rgba(128,128,128,.5){crisp}">'
    )


def _large_caption(name: str, candidate: Candidate) -> str:
    lines = [f"<b>{name}</b> {_origin(candidate)}", *_values(candidate.scores)]
    lines += [f"judge {told}" for told in _values(candidate.judges)]
    return "<br>".join(lines)


def _caption(rank: int, candidate: Candidate) -> str:
    return f"{rank}. {_shown(candidate.score)}<br>{_origin(candidate)}"


def _origin(candidate: Candidate) -> str:
    return f"candidate {candidate.id}" if candidate.seed is None else f"seed {candidate.seed}"


def _values(scores: Mapping[str, float]) -> list[str]:
    names = short_names(scores)
    return [f"{escaped(names[key])} {_shown(value)}" for key, value in scores.items()]


def _shown(value: float) -> str:
    return "can't tell" if value != value else f"{value:.4f}"


def escaped(text: object) -> str:
    """A text as HTML, cut where it is very long."""
    return html.escape(printable(str(text), _LONGEST))
