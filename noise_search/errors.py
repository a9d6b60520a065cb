"""Errors of a search that users may want to catch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noise_search.results import SearchResult


class SearchOutOfMemory(RuntimeError):
    """A single candidate doesn't fit into memory; everything smaller was tried."""


class AllCandidatesFailed(RuntimeError):
    """No candidate has a usable image and score, so there is no winner to return.

    Attributes:
        results: of every prompt of the search, with what was tried; empty where the error is of one result.
    """

    results: "tuple[SearchResult, ...]" = ()
