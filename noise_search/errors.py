"""Errors of a search that users may want to catch."""


class SearchOutOfMemory(RuntimeError):
    """A single candidate doesn't fit into memory; everything smaller was tried."""


class AllCandidatesFailed(RuntimeError):
    """No candidate has a usable image and score, so there is no winner to return."""
