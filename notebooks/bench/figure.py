"""Draw what search buys, for `docs/bench.md`: `python -m notebooks.bench.figure` writes `notebooks/images/auto.png`.

From `results/recorded.csv`: by `vlm` on the hard prompts, the score of the best candidate and how often the oracle
finds it right, over NFE, for random search and for auto.
"""

from pathlib import Path

from matplotlib.figure import Figure

from notebooks.bench.told import DDIM, FLOW, HARD, recorded

FILE = Path(__file__).parents[1] / "images" / "auto.png"
STEPS = 20
_COLOURS = {"auto": "C0", "random search": "C7"}


def main() -> None:
    """Draw it."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for column, model in enumerate((FLOW, DDIM)):
        rows = {names[4]: one for names, one in recorded().items() if names[:4] == (HARD, model, "vlm", "auto")}
        nfe = [STEPS * count for count in sorted(rows)]
        top, bottom = panels[:, column]
        for panel, searched, plain in ((top, "score", "random"), (bottom, "oracle", "oracle_random")):
            for name, key in (("auto", searched), ("random search", plain)):
                values = [rows[count][key] for count in sorted(rows)]
                panel.plot(nfe, values, "o-", color=_COLOURS[name], label=name, markersize=4)
            panel.grid(alpha=0.3)
        top.set_title(model)
        top.set_xscale("log", base=2)
        top.set_xticks(nfe, [str(one) for one in nfe])
        bottom.set_ylim(0, 1)
        bottom.set_xlabel("NFE")
    panels[0, 0].set_ylabel("vlm's score of the best")
    panels[1, 0].set_ylabel("share found right by the oracle")
    panels[0, 0].legend()
    figure.savefig(FILE, dpi=120)


if __name__ == "__main__":
    main()
