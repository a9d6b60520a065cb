"""Prompts to evaluate on: your own files, the sets that papers use, and those of the embedded world."""

from noise_search.prompt_sets.loading import as_prompt_set, load, names
from noise_search.prompt_sets.published import PUBLISHED, PromptsUnavailable, PublishedSet
from noise_search.prompt_sets.set import PromptSet, SetPrompt

__all__ = [
    "PUBLISHED",
    "PromptSet",
    "PromptsUnavailable",
    "PublishedSet",
    "SetPrompt",
    "as_prompt_set",
    "load",
    "names",
]
