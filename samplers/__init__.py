"""Diffusion and flow-matching samplers that can stop, fork, rewind and resume; nothing of search."""

from samplers import ddim, flow_matching
from samplers.base import NotDrivable, Run, Sampler
from samplers.ddim import DDIM
from samplers.denoiser import DenoiserSampler
from samplers.flow_matching import FlowMatching
from samplers.pipelines.choose import sampler_for
from samplers.pipelines.sampler import PipelineSampler
from samplers.pipelines.whole_call import WholeCallSampler
from samplers.recipe import Operation, Recipe
from samplers.rule import StepRule
from samplers.space import NoiseSpace
from samplers.state import State
from samplers.transition import Ancestral, Deterministic, Glass, Mix, Transition

__all__ = [
    "DDIM",
    "Ancestral",
    "DenoiserSampler",
    "Deterministic",
    "FlowMatching",
    "Glass",
    "Mix",
    "NoiseSpace",
    "NotDrivable",
    "Operation",
    "PipelineSampler",
    "Recipe",
    "Run",
    "Sampler",
    "State",
    "StepRule",
    "Transition",
    "WholeCallSampler",
    "ddim",
    "flow_matching",
    "sampler_for",
]
