"""Verifiers: functions from images and prompts to one number per image, higher is better."""

from .aesthetic import Aesthetic
from .aggregator import Aggregator
from .base import Verifier, VerifierUnusable
from .brightness import Brightness
from .card import Card
from .catalogue import available, load
from .classes import ClassScore
from .clip import CLIPScore
from .consistency import Consistency
from .endpoint import JudgeError
from .ensemble import ENSEMBLES, MeanRank, Single, as_aggregator
from .function import FunctionVerifier
from .hps import HPS
from .hpsv3 import HPSv3
from .hub import WeightsError
from .image_reward import ImageReward
from .jpeg import JPEGSize
from .judge import RubricJudge
from .pickscore import PickScore
from .safety import Safety
from .saturation import Saturation
from .sharpness import Sharpness
from .unloading import unload
from .vlm import VLM
from .z_scores import MeanZ, MinZ, WeightedSum

__all__ = [
    "ENSEMBLES",
    "HPS",
    "VLM",
    "Aesthetic",
    "Aggregator",
    "Brightness",
    "CLIPScore",
    "Card",
    "ClassScore",
    "Consistency",
    "FunctionVerifier",
    "HPSv3",
    "ImageReward",
    "JPEGSize",
    "JudgeError",
    "MeanRank",
    "MeanZ",
    "MinZ",
    "PickScore",
    "RubricJudge",
    "Safety",
    "Saturation",
    "Sharpness",
    "Single",
    "Verifier",
    "VerifierUnusable",
    "WeightedSum",
    "WeightsError",
    "as_aggregator",
    "available",
    "load",
    "unload",
]
