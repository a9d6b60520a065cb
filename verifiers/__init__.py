"""Verifiers: functions from images and prompts to one number per image, higher is better."""

from verifiers.aesthetic import Aesthetic
from verifiers.aggregator import Aggregator
from verifiers.base import Verifier, VerifierUnusable
from verifiers.brightness import Brightness
from verifiers.card import Card
from verifiers.catalogue import available, load
from verifiers.classes import ClassScore
from verifiers.clip import CLIPScore
from verifiers.consistency import Consistency
from verifiers.endpoint import JudgeError
from verifiers.ensemble import ENSEMBLES, MeanRank, Single, as_aggregator
from verifiers.function import FunctionVerifier
from verifiers.hps import HPS
from verifiers.hpsv3 import HPSv3
from verifiers.hub import WeightsError
from verifiers.image_reward import ImageReward
from verifiers.jpeg import JPEGSize
from verifiers.judge import RubricJudge
from verifiers.pickscore import PickScore
from verifiers.safety import Safety
from verifiers.saturation import Saturation
from verifiers.sharpness import Sharpness
from verifiers.unloading import unload
from verifiers.vlm import VLM
from verifiers.z_scores import MeanZ, MinZ, WeightedSum

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
