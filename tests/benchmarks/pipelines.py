"""The table of tested pipelines, from a run: `noise_search/data/pipelines.json` and `docs/pipelines.md`.

    PYTHONPATH=.:tests python tests/benchmarks/pipelines.py [--only NAME ...] [--write] [--workers 2]

Every row of `tiny.table` is checked as `noise_search.check` does, on the CPU. `--write` writes both files, after a run
over all rows.
"""

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch

from noise_search.checking import LEVELS, PIECES, PLAIN
from noise_search.claims import TABLE
from samplers.pipelines.view import parameters

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"


def checked(name: str) -> dict[str, Any]:
    """One row: what `check` finds, or the error of the plain pipeline."""
    import warnings

    warnings.simplefilter("ignore")
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    from noise_search import check
    from tiny.table import ENTRIES

    entry, started = ENTRIES[name], time.perf_counter()
    try:
        pipe = entry.make()
        pipe.set_progress_bar_config(disable=True)
        steps = entry.steps if "num_inference_steps" in parameters(pipe) else None
        found = check(pipe, prompt=entry.prompt, steps=steps, **settings(entry.options)).to_json()
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return {"row": name, "error": said, "trace": traceback.format_exc(), "seconds": time.perf_counter() - started}
    return {"row": name, **found}


def settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call as `check` takes them."""
    renamed = {"guidance_scale": "guidance", "height": "height", "width": "width", "negative_prompt": "negative_prompt"}
    own = {renamed[k]: v for k, v in options.items() if k in renamed and isinstance(v, int | float | str)}
    left = {k: v for k, v in options.items() if renamed.get(k) not in own}
    return own | {"model_options": {k: v for k, v in left.items() if v is not None or k not in renamed.values()}}


def told(row: dict[str, Any]) -> str:
    """A row in a line."""
    if "error" in row:
        return f"{row['row']}: FAILS {row['error']:.150} ({row['seconds']:.1f} s)"
    failed = [f"{p['claim']}: {p['seen']}" for p in row["points"] if p["holds"] is False]
    limits = f"; {row['why']:.120}" * bool(row["why"])
    rows = "" if row["rows"] or row["level"] == LEVELS[-1] else ", alone"
    return f"{row['row']}: {row['level']}{rows} ({row['seconds']:.1f} s){limits}" + "".join(
        f"\n    NOT {f}" for f in failed
    )


def names_of(rows: list[dict[str, Any]]) -> set[str]:
    """The classes of rows."""
    return {row["pipeline"] for row in rows}


def claimed(rows: list[dict[str, Any]]) -> dict[str, bool | None]:
    """Of the rows of a class, which claims hold: in all, in none (False), in some (None)."""

    def of(claim: str) -> bool:
        return all(p["holds"] is not False for row in rows for p in row["points"] if p["claim"] == claim)

    # One whose own pictures don't repeat tells nothing of batches: its rows are run one by one when that is seen.
    repeating = [row for row in rows if not any(p["claim"] == PLAIN and p["holds"] is None for p in row["points"])]
    batches = {row["rows"] for row in repeating if row["level"] != LEVELS[-1]}
    together = None if len(batches) > 1 else True in batches
    return {"plain": of(PLAIN), "rows": together, "pieces": of(PIECES)}


def page(content: dict[str, Any]) -> str:
    """The table as Markdown."""
    rows = content["rows"]
    counts = {level: sum(row["level"] == level for row in rows) for level in LEVELS}
    classes = len({row["pipeline"] for row in rows})
    lines = [
        "# Tested pipelines",
        "",
        "Written by `tests/benchmarks/pipelines.py --write`. Each row is a small pipeline with random weights, built",
        f"from configurations of diffusers {content['diffusers']}, which `noise_search.check` compared with itself, in",
        "float32 on a CPU.",
        "",
        "- *Everything*: all algorithms. *Whole runs*: random and zero-order search, with noise handed in. *Seeds*:",
        "  random search.",
        "- *Batches*: a candidate in a batch is the candidate alone; where not, each runs alone.",
        "",
        f"{len(rows)} rows of {classes} classes: " + ", ".join(f"{n} {level}" for level, n in counts.items()) + ".",
        "",
        "| pipeline | can be searched with | batches | because |",
        "|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: str(row["row"]).lower()):
        together = "" if row["level"] == LEVELS[-1] else "yes" if row["rows"] else "no"
        why = str(row["why"]).replace("|", "/")
        lines.append(f"| {row['row']} | {row['level']} | {together} | {why} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    from tiny.table import ENTRIES

    names = [name for name in ENTRIES if not given.only or any(part in name for part in given.only)]
    started, found = time.perf_counter(), []
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
        for row in pool.imap(checked, names):
            found.append(row)
            print(told(row), flush=True)
    print(f"{len(found)} rows, {time.perf_counter() - started:.0f} s", flush=True)
    if given.write and not given.only:
        good = [row for row in found if "error" not in row]
        classes = {name: claimed([row for row in good if row["pipeline"] == name]) for name in sorted(names_of(good))}
        kept = ("row", "pipeline", "level", "rows", "why")
        content = {
            "diffusers": diffusers.__version__,
            "classes": classes,
            "rows": [{k: row[k] for k in kept} for row in good],
        }
        TABLE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(content), encoding="utf-8")
    return int(any("error" in row for row in found))


if __name__ == "__main__":
    sys.exit(main())
