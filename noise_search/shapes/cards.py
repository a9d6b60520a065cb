"""Cards of the embedded world's verifiers: what one should know of each, as of the published ones."""

from collections.abc import Mapping

from verifiers.card import Card

_HERE = "Apache-2.0"
_TRAINED = "the embedded world's card, noise_search/shapes/weights/README.md"
_WORLD = "; meaningful on the embedded world's images only"

EMBEDDED_CARDS: Mapping[str, Card] = {
    "shapes-clip": Card(
        measures="the embedded world's CLIP; what 'clip' means for embedded models",
        range=f"0 to 2.5, usually 0.9 to 2.4{_WORLD}",
        reference=f"after Hessel et al. 2021, arXiv 2104.08718; {_TRAINED}",
        size="3.1 MB",
        weights_licence=_HERE,
        prompt_limit="16 tokens",
        weights="this package",
    ),
    "shapes-aesthetic": Card(
        measures="the embedded world's rule of composition; what 'aesthetic' means for embedded models",
        range=f"usually 3 to 8{_WORLD}",
        reference=_TRAINED,
        size="3.7 MB with the CLIP that it shares",
        weights_licence=_HERE,
        needs="images",
        weights="this package",
    ),
    "shapes-consistency": Card(
        measures="likeness of x0 prediction and finished image to the embedded CLIP; 'consistency' there",
        range=f"cosine, -1 to 1, usually above 0.97{_WORLD}",
        reference=f"Ma et al. 2025, arXiv 2501.09732; {_TRAINED}",
        size="3.1 MB, shared with shapes-clip",
        weights_licence=_HERE,
        needs="images and their x0 predictions at a noise level",
        weights="this package",
    ),
    "shapes-vlm": Card(
        measures="a small vision-language model's yes or no; what 'vlm' means for embedded models",
        range=f"log-odds, unbounded, usually -9 to 8{_WORLD}",
        reference=f"after VQAScore, Lin et al. 2024, arXiv 2404.01291; {_TRAINED}",
        size="3.5 MB",
        weights_licence=_HERE,
        prompt_limit="the model's context, 512 tokens",
        weights="this package",
    ),
    "shapes-class": Card(
        measures="the embedded CLIP as a classifier of single objects; what 'class' means for embedded models",
        range=f"logits, usually 17 to 23; log-probabilities below 0; probabilities 0 to 1{_WORLD}",
        reference=f"Ma et al. 2025, arXiv 2501.09732; {_TRAINED}",
        size="3.1 MB, shared with shapes-clip",
        weights_licence=_HERE,
        prompt_limit="the prompt is one of 64 single objects, such as 'a yellow star', or its number",
        needs="images and a class: the prompt, or label=",
        weights="this package",
    ),
    "shapes-oracle": Card(
        measures="by rule, whether an embedded world's image shows what is asked for and nothing else can be seen; "
        "what 'oracle' means for embedded models",
        range="0 or 1, with facts=True the share of facts that hold; not a number where it can't read the caption, "
        "which it says",
        reference=_TRAINED,
        prompt_limit="captions in the embedded world's grammar",
        differentiable=False,
    ),
}
