"""Verifiers: functions from images and prompts to one number per image, higher is better."""

from .aesthetic import Aesthetic
from .base import Verifier
from .card import Card
from .catalogue import available, load
from .clip import CLIPScore
from .ensemble import Aggregator, MeanRank, MeanZ, Single, as_aggregator
from .function import FunctionVerifier
from .hub import WeightsError

__all__ = [
    "Aesthetic",
    "Aggregator",
    "CLIPScore",
    "Card",
    "FunctionVerifier",
    "MeanRank",
    "MeanZ",
    "Single",
    "Verifier",
    "WeightsError",
    "as_aggregator",
    "available",
    "load",
]
