"""HTML of a report: one file that needs no script and asks nothing of the network, in light, dark and on paper."""

import base64
import html
import re
from collections.abc import Iterable, Sequence

from noise_search.comparison.views.figures import Plot, figure_svg
from noise_search.words import printable

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


_CONTROLS = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


_STYLE = """
:root { color-scheme: light dark; --ink: #202124; --soft: #5f6368; --paper: #ffffff; --shade: #f1f3f4; --line: #dadce0;
  --link: #1a5fb4; --warn: #fce8e6; --warnink: #8c1d18; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #b0b5ba; --paper: #1b1c1e; --shade: #292b2e;
  --line: #44474b; --link: #8ab4f8; --warn: #4a2320; --warnink: #f6c7c3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.2rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, li { max-width: 46rem; } a { color: var(--link); }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; max-width: none; }
.soft, caption, figcaption { color: var(--soft); font-size: .875rem; }
.answer { background: var(--shade); border-left: 4px solid var(--link); padding: .2rem 1.1rem; border-radius: 4px;
  max-width: 52rem; }
.alarm { background: var(--warn); color: var(--warnink); border-left: 4px solid currentColor; padding: .5rem 1.1rem;
  border-radius: 4px; max-width: 52rem; }
.scroll { overflow-x: auto; margin: .8rem 0 1.4rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .4rem; 
  max-width: min(46rem, calc(100vw - 2.4rem)); }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th { font-weight: 600; } thead th { background: var(--shade); }
th[scope=row], .text { text-align: left; } th[scope=row] { white-space: nowrap; } td.number { white-space: nowrap; }
tbody tr.first th, tbody tr.first td { border-top: 2px solid var(--line); }
figure { margin: 1rem 0 1.8rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; padding: .6rem; border-radius: 6px;
  border: 1px solid var(--line); }
figcaption { padding-top: .4rem; max-width: 46rem; }
table.images td, table.images th { text-align: center; border: 0; padding: .35rem; }
table.images th[scope=row] { text-align: right; font-weight: 400; max-width: 14rem; white-space: normal;
  vertical-align: middle; }
table.images img { display: block; width: 8rem; height: auto; border: 1px solid var(--line); }
table.images img.small { image-rendering: pixelated; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; } dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--shade); padding: .8rem 1rem; overflow-x: auto; border-radius: 4px; font-size: .8125rem;
  line-height: 1.45; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
@media print { :root { --ink: #000; --soft: #333; --paper: #fff; --shade: #f4f4f4; --line: #bbb; --warn: #f4f4f4;
  --warnink: #000; color-scheme: light; } body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  figure, tr, .answer, .alarm { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  .scroll, pre { overflow: visible; } pre { white-space: pre-wrap; } th, td { padding: .2rem .4rem; } }
"""


def text(value: object) -> str:
    """Escaped for HTML, in attributes too; characters that HTML forbids become U+FFFD."""
    return html.escape(_CONTROLS.sub("\ufffd", printable(str(value))), quote=True)


def page(title: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """A whole document.

    Args:
        title: in plain text.
        sections: of each its id, its heading in plain text, and its HTML; the first one stands without heading.
    """
    (_, _, first), *rest = sections
    links = "".join(f'<li><a href="#{name}">{text(heading)}</a></li>' for name, heading, _ in rest)
    body = "\n".join(
        f'<section id="{name}">\n<h2>{text(heading)}</h2>\n{content}\n</section>' for name, heading, content in rest
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{text(title)}</h1>\n"
        f'{first}\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n{body}\n</main>\n</body>\n</html>\n'
    )


def paragraph(content: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_class(kind)}>{text(content)}</p>"


def bullets(lines: Iterable[str]) -> str:
    """A list of plain texts."""
    return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]], words: Sequence[int] = ()) -> str:
    """A table of plain texts, whose first column names the rows; a line sets off rows with another first cell.

    Args:
        caption: what it shows.
        columns: headings.
        rows: cells.
        words: positions of columns that hold words, not numbers.
    """
    head = "".join(
        f'<th scope="col"{_class("text" if at in (0, *words) else "")}>{text(one)}</th>'
        for at, one in enumerate(columns)
    )
    body, last = [], None
    for first, *cells in rows:
        kind = "first" if last is not None and first != last else ""
        last = first
        filled = "".join(
            f"<td{_class('text' if at in words else 'number')}>{text(cell)}</td>" for at, cell in enumerate(cells, 1)
        )
        body.append(f'<tr{_class(kind)}><th scope="row">{text(first)}</th>{filled}</tr>')
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{text(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n'
        "<tbody>\n" + "\n".join(body) + "\n</tbody></table></div>"
    )


def figure(drawn: Plot, caption: str) -> str:
    """A figure as SVG; as an image of its own, so that its ids meet no other figure's."""
    source = data_uri(figure_svg(drawn).encode(), "image/svg+xml")
    width = round(96 * drawn.get_size_inches()[0])
    image = f'<img src="{source}" alt="{text(drawn.alt)}" width="{width}">'
    return f"<figure>\n{image}\n<figcaption>{text(drawn.heading)}. {text(caption)}</figcaption>\n</figure>"


def data_uri(content: bytes, kind: str) -> str:
    """Content that stands where an address would."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def definitions(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and what they are."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs) + "</dl>"


def folded(summary: str, content: str) -> str:
    """HTML that opens on a click, without a script."""
    return f"<details><summary>{text(summary)}</summary>\n{content}\n</details>"


def code(content: str) -> str:
    """Lines as they are."""
    return f"<pre><code>{text(content)}</code></pre>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
