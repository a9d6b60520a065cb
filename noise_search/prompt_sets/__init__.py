"""Prompts to evaluate on: your own files, the sets that papers use, and those of the embedded world."""

from noise_search.prompt_sets.loading import as_prompt_set, load, names
from noise_search.prompt_sets.prompt_set import PromptSet, SetPrompt
from noise_search.prompt_sets.published import PUBLISHED, PromptsUnavailable, PublishedSet

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
