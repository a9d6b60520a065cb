"""Verifiers: functions from images and prompts to one number per image, higher is better."""

from verifiers.aesthetic import Aesthetic
from verifiers.aggregators.base import Aggregator
from verifiers.aggregators.ranks import ENSEMBLES, MeanRank, Single, as_aggregator
from verifiers.aggregators.z_scores import MeanZ, MinZ, WeightedSum
from verifiers.base import FunctionVerifier, Verifier, VerifierUnusable, WeightsError
from verifiers.card import Card
from verifiers.catalogue import available, load
from verifiers.classes.score import ClassScore
from verifiers.clip import CLIPScore
from verifiers.consistency import Consistency
from verifiers.edits import CLIPDirection, CLIPImage
from verifiers.hps import HPS
from verifiers.hpsv3 import HPSv3
from verifiers.image_reward import ImageReward
from verifiers.judge.endpoint import JudgeError
from verifiers.judge.judge import EditJudge, RubricJudge
from verifiers.judge.pairs import PairJudge
from verifiers.loading.devices import unload
from verifiers.measures import Brightness, JPEGSize, Saturation, Sharpness
from verifiers.person import HumanVerifier
from verifiers.pickscore import PickScore
from verifiers.safety import Safety
from verifiers.vlm import VLM

__all__ = [
    "ENSEMBLES",
    "HPS",
    "VLM",
    "Aesthetic",
    "Aggregator",
    "Brightness",
    "CLIPDirection",
    "CLIPImage",
    "CLIPScore",
    "Card",
    "ClassScore",
    "Consistency",
    "EditJudge",
    "FunctionVerifier",
    "HPSv3",
    "HumanVerifier",
    "ImageReward",
    "JPEGSize",
    "JudgeError",
    "MeanRank",
    "MeanZ",
    "MinZ",
    "PairJudge",
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
