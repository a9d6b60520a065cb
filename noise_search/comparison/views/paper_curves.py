"""The published curves, to draw one's own over: gains of a search against its compute on FLUX and on ImageNet.

Ma et al. 2025, "Inference-Time Scaling for Diffusion Models beyond Scaling Denoising Steps", arXiv 2501.09732. The
values were digitised from its figures: FID to about .02, IS to 1, CLIPScore to .0005, Aesthetic to .002, precision and
recall to .001, compute to 1 %. A point that hides under another curve is marked as occluded and less certain.

    for published in paper.matching("flux-drawbench-ensemble"):
        axes.plot(published.xs, paper.gain(published).ys, label=published.label)
"""

import difflib
import functools
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass, replace

CITATION = "Ma et al. 2025, arXiv 2501.09732; values digitised from its figures"


@dataclass(frozen=True)
class PaperCurve:
    """A curve of the paper.

    Attributes:
        figure: that shows it, such as "Fig6".
        label: what it is, in the words of its plot; "inferred" where the plot doesn't say so.
        x_unit: "NFE" or "GFLOPs", of everything that is spent on one image.
        points: (compute, value) in order of compute.
        occluded: for each point whether another curve hides it, so that its value is approximate.
        name: by which `curve` finds it; "" for the two that repeat another.
        relative: whether values are gains in % over the first point.
    """

    figure: str
    label: str
    x_unit: str
    points: tuple[tuple[float, float], ...]
    occluded: tuple[bool, ...]
    name: str = ""
    relative: bool = False

    @property
    def xs(self) -> tuple[float, ...]:
        """Compute of each point."""
        return tuple(x for x, _ in self.points)

    @property
    def ys(self) -> tuple[float, ...]:
        """Value of each point."""
        return tuple(y for _, y in self.points)

    @property
    def lower_is_better(self) -> bool:
        """Whether smaller values are better images, as of FID; gains in % grow with the images."""
        return "FID" in self.label and not self.relative


@functools.cache
def curves() -> tuple[PaperCurve, ...]:
    """All curves, in the order of the data file. Fig. 1 shows two curves of Fig. 6 once more, which have no name."""
    import pandas

    with importlib.resources.files("noise_search").joinpath("data/paper_curves.csv").open("rb") as content:
        points = pandas.read_csv(content, keep_default_na=False, float_precision="round_trip", dtype={"x": float})
    groups = points.groupby(["figure", "curve", "x_unit", "name"], sort=False)
    return tuple(
        PaperCurve(
            figure,
            label,
            unit,
            points=tuple(rows[["x", "y"]].itertuples(index=False, name=None)),
            occluded=tuple((rows.quality != "digitised").tolist()),
            name=name,
            relative=label.startswith("rel%"),
        )
        for (figure, label, unit, name), rows in groups
    )


def names() -> tuple[str, ...]:
    """The short names, which read: data, algorithm, metric, verifier, guidance where it isn't 1.

    "flux-drawbench-ensemble-..." are gains in % of a search by the ensemble. "steps" is more denoising steps without a
    search, "drafts50" a search whose candidates take 50 NFE, "ssl" a verifier without labels.
    """
    return tuple(one.name for one in curves() if one.name)


def curve(name: str) -> PaperCurve:
    """The curve with a short name.

    Raises:
        ValueError: there is none; the nearest is told.
    """
    for one in curves():
        if name and one.name == name.lower():
            return one
    near = difflib.get_close_matches(name.lower(), names(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    starts = sorted({"-".join(one.split("-")[:2]) for one in names()})
    raise ValueError(
        f"the paper has no curve {name!r}; {hint}Names begin with {', '.join(starts)}; paper.names() lists them"
    )


def matching(name: str) -> tuple[PaperCurve, ...]:
    """The curves whose names are `name` or begin with it up to a dash: "flux-drawbench", "imagenet-zo2".

    Raises:
        ValueError: there is none; the nearest is told.
    """
    asked = name.lower().rstrip("-")
    found = tuple(one for one in curves() if asked and f"{one.name}-".startswith(f"{asked}-"))
    return found or (curve(name),)


def gain(published: PaperCurve) -> PaperCurve:
    """The curve as gain in % over its first point, so that curves of other scales compare; FID gains as it falls."""
    if published.relative:
        return published
    values = relative_gain(published.ys, lower_is_better=published.lower_is_better)
    return replace(published, points=tuple(zip(published.xs, values, strict=True)), relative=True)


def relative_gain(values: Sequence[float], *, lower_is_better: bool = False) -> tuple[float, ...]:
    """Gains in % over the first value: 100 (v - v_0) / |v_0|, with the sign turned where lower is better.

    Raises:
        ValueError: no values, or a first value of 0, over which there is no relative gain.
    """
    if not len(values) or values[0] == 0:
        few = f"{list(values[:3])}{' and so on' * (len(values) > 3)}"
        raise ValueError(f"values={few} need a first value other than 0 to be relative to")
    sign = -100.0 if lower_is_better else 100.0
    return tuple(sign * (value - values[0]) / abs(values[0]) for value in values)
