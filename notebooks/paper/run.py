"""Run axes: `python notebooks/paper/run.py [AXIS ...] --per-family 10 --seeds 2 --out runs/paper`.

Every comparison lives in a directory of its own, where it goes on if it was stopped; `report.py` reads them.
"""

import argparse
from pathlib import Path

from axes import AXES

import noise_search


def main() -> None:
    """Parse the command line and run the axes asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="*", metavar="AXIS", help=f"some of {', '.join(AXES)}; all by default")
    parser.add_argument("--per-family", type=int, default=10, help="prompts of each of the six families")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--most", type=int, default=None, help="leave out budgets of more candidates or NFE than this")
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/paper"))
    asked = parser.parse_args()
    if strange := [name for name in asked.axes if name not in AXES]:
        parser.error(f"unknown axes {strange}; expected some of {', '.join(AXES)}")
    for name in asked.axes or AXES:
        run(name, asked.out / name, asked.per_family, asked.seeds, asked.most, asked.batch_size, asked.device)


def run(
    name: str,
    out: Path,
    per_family: int,
    seeds: int,
    most: int | None = None,
    batch_size: int | None = None,
    device: str | None = None,
) -> None:
    """Run an axis's comparisons into directories below `out`."""
    prompts = noise_search.prompt_sets.load("shapes", per_family=per_family)
    for label, arguments in AXES[name]().runs.items():
        given = {"judges": ["oracle"], "seeds": seeds, "batch_size": batch_size, "pictured": 0, **arguments}
        for limit in ("candidates", "budgets"):
            if limit in given and most is not None:
                given[limit] = [one for one in given[limit] if one <= most] or given[limit][:1]
        if callable(given.get("model")):
            given["model"] = given["model"](device)
        else:
            given["device"] = device
        found = noise_search.compare(prompts, out=out / label.replace(" ", "-"), **given)
        print(f"{name}, {label}: {found!r}", flush=True)


if __name__ == "__main__":
    main()
