"""Diagnosis: whether the gain of a search is real, or only pleases its verifier."""

from noise_search.diagnosis.diagnosing import diagnose
from noise_search.diagnosis.report import Diagnosis

__all__ = ["Diagnosis", "diagnose"]
