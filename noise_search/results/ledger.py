"""The budget of one prompt and the ledger of what was spent; the only place where NFE are charged."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from noise_search.words import counted


@dataclass
class Ledger:
    """What a search cost.

    Attributes:
        nfe_budget: NFE allowed. 1 NFE = one denoiser evaluation of one candidate at one grid point; guidance does not
            double it (the papers' convention).
        nfe: NFE charged.
        nfe_waste: NFE that led nowhere: padding rows, batches lost to out-of-memory errors or with a worker that died,
            of which nothing is known and all is counted, and rows beyond the one that reached a limit. Not charged.
        denoiser_rows: rows that went through the denoiser; over the rows per evaluation this is `nfe + nfe_waste`.
        rows_per_evaluation: denoiser rows per NFE, 2 with classifier-free guidance.
        check_nfe: NFE, beside the budget, that showed whether the pipeline can be driven as it is; of the first prompt.
        decodes: latents decoded to images.
        verifier_images: images scored, times verifiers.
        judge_images: images judged, times judges.
        seconds: wall-clock by phase; of several workers added up.
    """

    nfe_budget: int
    nfe: int = 0
    nfe_waste: float = 0
    denoiser_rows: int = 0
    rows_per_evaluation: int = 1
    check_nfe: int = 0
    decodes: int = 0
    verifier_images: int = 0
    judge_images: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def charge(self, nfe: int) -> None:
        """Book NFE before they are spent.

        Raises:
            RuntimeError: the budget would be exceeded; the driver trims rounds so that this can't happen.
        """
        if self.nfe + nfe > self.nfe_budget:
            raise RuntimeError(f"charging {nfe} NFE exceeds the budget: {self.nfe} of {self.nfe_budget} are spent")
        self.nfe += nfe

    def refund(self, nfe: int) -> None:
        """Take back a charge for rows that were never run to their end; what they used is booked as waste."""
        self.nfe -= nfe

    @property
    def left(self) -> int:
        """NFE that may still be charged."""
        return self.nfe_budget - self.nfe

    def to_json(self) -> dict[str, Any]:
        """The ledger as plain JSON."""
        return {
            "nfe_budget": self.nfe_budget,
            "nfe": self.nfe,
            "nfe_waste": self.nfe_waste,
            "denoiser_rows": self.denoiser_rows,
            "rows_per_evaluation": self.rows_per_evaluation,
            "check_nfe": self.check_nfe,
            "decodes": self.decodes,
            "verifier_images": self.verifier_images,
            "judge_images": self.judge_images,
            "seconds": {phase: round(value, 4) for phase, value in self.seconds.items()},
        }

    def __str__(self) -> str:
        spent = ", ".join(f"{phase} {value:.1f} s" for phase, value in self.seconds.items())
        return (
            f"{self.nfe} of {self.nfe_budget} NFE (waste {self.nfe_waste:g}"
            f"{f', checks {self.check_nfe}' * bool(self.check_nfe)}), "
            f"{counted(self.denoiser_rows, 'denoiser row')}, {counted(self.decodes, 'decode')}, "
            f"{counted(self.verifier_images, 'verifier image')}, {counted(self.judge_images, 'judge image')}; {spent}"
        )
