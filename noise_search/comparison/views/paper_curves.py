"""The published curves, to draw one's own over: gains of a search against its compute on FLUX and on ImageNet.

Ma et al. 2025, "Inference-Time Scaling for Diffusion Models beyond Scaling Denoising Steps", arXiv 2501.09732. The
values were digitised from its figures: FID to about .02, IS to 1, CLIPScore to .0005, Aesthetic to .002, precision and
recall to .001, compute to 1 %. A point that hides under another curve is marked as occluded and less certain.

    for published in paper.matching("flux-drawbench-ensemble"):
        axes.plot(published.xs, paper.gain(published).ys, label=published.label)
"""

import csv
import difflib
import functools
import importlib.resources
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

CITATION = "Ma et al. 2025, arXiv 2501.09732; values digitised from its figures"


_TEXT_TO_IMAGE = {
    ("Fig1", "DrawBench CLIPScore (FLUX, CLIPScore verifier inferred)"): "flux-drawbench-clip",
    ("Fig1", "DrawBench Aesthetic (FLUX, ensemble inferred)"): "flux-drawbench-aesthetic",
    ("Fig1", "denoise-only DrawBench CLIPScore FLUX"): "flux-drawbench-steps-clip",
    ("Fig1", "denoise-only DrawBench Aesthetic FLUX"): "flux-drawbench-steps-aesthetic",
    ("Fig9", "rel% ImageReward ensemble"): "flux-drawbench-ensemble-imagereward",
    ("Fig9", "rel% CLIPScore ensemble"): "flux-drawbench-ensemble-clip",
    ("Fig9", "rel% LLM grader ensemble"): "flux-drawbench-ensemble-llm",
    ("Fig9", "rel% Aesthetic ensemble (from Fig1 absolute values)"): "flux-drawbench-ensemble-aesthetic",
}


_STEPS = {
    ("Fig1", "denoise-only ImageNet FID"): "imagenet-steps-fid",
    ("Fig1", "denoise-only ImageNet IS"): "imagenet-steps-is",
}


_GUIDANCES = {"1.0": "", "1.35": "-cfg1.35", "1.5": "-cfg1.5"}


_RANDOM = {
    (figure, f"{label} cfg{guidance}"): f"imagenet-random-{name}{suffix}"
    for guidance, suffix in _GUIDANCES.items()
    for figure, label, name in (
        ("Fig3", "oracle FID", "fid-oracle"),
        ("Fig3", "oracle IS", "is-oracle"),
        ("Fig4", "IS random DINO-LinearHead", "is-dino"),
        ("Fig4", "IS random CLIP-ZeroShot", "is-clip"),
        ("Fig5", "IS random DINO self-supervised", "is-dino-ssl"),
        ("Fig5", "IS random CLIP self-supervised", "is-clip-ssl"),
    )
}


_HACKING = {
    ("Fig13", f"{metric} random {verifier}{' cfg1.0' * (metric == 'FID')}"): f"imagenet-random-{metric.lower()}-{name}"
    for metric in ("FID", "Precision", "Recall")
    for verifier, name in (("DINO-LinearHead", "dino"), ("CLIP-ZeroShot", "clip"))
}


_LOCAL = {
    ("Fig6", f"{metric} {algorithm}"): f"imagenet-{name}-{metric.lower()}-dino"
    for metric in ("FID", "IS")
    for algorithm, name in (
        ("ZO-2", "zo2"),
        ("ZO-4", "zo4"),
        ("ZO-8", "zo8"),
        ("Paths-1", "paths1"),
        ("Paths-2", "paths2"),
        ("Paths-4", "paths4"),
    )
}


_DRAFTS = {
    ("Fig10", f"IS NFEs/iter={nfe} (SiT-XL cfg1.5 DINO random, inferred)"): f"imagenet-drafts{nfe}-is-dino-cfg1.5"
    for nfe in (10, 25, 50, 100, 250)
}


_MODELS = {
    ("Fig11", "FID SiT-XL (plotted data = ZO-2 curve)"): "imagenet-sit-xl-fid",
    ("Fig11", "IS SiT-XL"): "imagenet-sit-xl-is",
    ("Fig11", "FID SiT-L"): "imagenet-sit-l-fid",
    ("Fig11", "IS SiT-L"): "imagenet-sit-l-is",
    ("Fig11", "FID SiT-B"): "imagenet-sit-b-fid",
    ("Fig11", "IS SiT-B"): "imagenet-sit-b-is",
}


_NAMES = {**_TEXT_TO_IMAGE, **_STEPS, **_RANDOM, **_HACKING, **_LOCAL, **_DRAFTS, **_MODELS}
"""Short names by figure and label. Fig. 1 shows the curves "FID ZO-2" and "IS ZO-2" of Fig. 6 once more, unnamed."""


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
    """All curves, in the order of the data file."""
    found: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    content = importlib.resources.files("noise_search").joinpath("data/paper_curves.csv").read_text("utf-8")
    for row in csv.DictReader(content.splitlines()):
        found.setdefault((row["figure"], row["curve"], row["x_unit"]), []).append(row)
    return tuple(
        PaperCurve(
            figure,
            label,
            unit,
            points=tuple((float(row["x"]), float(row["y"])) for row in rows),
            occluded=tuple(row["quality"] != "digitised" for row in rows),
            name=_NAMES.get((figure, label), ""),
            relative=label.startswith("rel%"),
        )
        for (figure, label, unit), rows in found.items()
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
    raise _unknown(name)


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
        raise ValueError(f"values={_few(values)} need a first value other than 0 to be relative to")
    sign = -100.0 if lower_is_better else 100.0
    return tuple(sign * (value - values[0]) / abs(values[0]) for value in values)


def _unknown(name: str) -> ValueError:
    near = difflib.get_close_matches(name.lower(), names(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    starts = sorted({"-".join(one.split("-")[:2]) for one in names()})
    return ValueError(
        f"the paper has no curve {name!r}; {hint}Names begin with {', '.join(starts)}; paper.names() lists them"
    )


def _few(values: Iterable[float]) -> str:
    listed = list(values)
    return repr(listed[:3])[:-1] + (", ...]" if len(listed) > 3 else "]")
