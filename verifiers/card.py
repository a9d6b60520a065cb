"""What one should know of a verifier before choosing it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A verifier's card; what concerns weights describes the default ones.

    Attributes:
        measures: what a high score means.
        range: values that scores take, and usual ones.
        reference: where the score is published.
        size: what is downloaded, "none" where nothing is.
        code_licence: of the original implementation; ours is Apache-2.0.
        weights_licence: of the weights; what forbids commercial use is said at load.
        prompt_limit: tokens of the prompt that are read, special ones included.
        needs: what is scored.
        differentiable: whether a gradient reaches the images.
        weights: where the weights come from.
        direction: which scores are good.
        agreement: with how many per cent of people's choices between two images of modern models it agrees, 50 being
            chance, by MMRB2 (arXiv 2512.16899); None where that isn't known.
    """

    measures: str
    range: str
    reference: str
    size: str = "none"
    code_licence: str = "Apache-2.0"
    weights_licence: str = "no weights"
    prompt_limit: str = "none"
    needs: str = "images and prompts"
    differentiable: bool = True
    weights: str = "none"
    direction: str = "higher is better"
    agreement: float | None = None

    @property
    def details(self) -> str:
        """What follows what it measures in a listing."""
        loaded = f"{self.size} from {self.weights} ({self.weights_licence})"
        loads = f"weights {self.weights if self.size == 'none' else loaded}"
        limit = "" if self.prompt_limit == "none" else f"; prompt limit {self.prompt_limit}"
        people = "" if self.agreement is None else f"; agrees with people in {self.agreement:g} % of pairs (chance 50)"
        return f"{self.range}; {self.direction}; {loads}{limit}{people}; {self.reference}"
