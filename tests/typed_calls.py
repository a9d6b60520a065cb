"""Calls as users write them, for mypy: right ones pass, each misspelt one is found, as an unused ignore is an error."""

from noise_search import SearchResult, compare, replay, search

one: SearchResult = search(
    "two yellow stars", nfe=80, steps=4, guidance=2.0, scheduler="keep", judges=["oracle"], algorithm="random"
)
several: list[SearchResult] = search(["two yellow stars", "a red circle"], candidates=4, algorithm="random")
search("two yellow stars", nef=80, algorithm="random")  # type: ignore[call-overload]
search("two yellow stars", guidance_scale=2.0, algorithm="random")  # type: ignore[call-overload]
search("two yellow stars", scheduler="kept", algorithm="random")  # type: ignore[call-overload]
compare(["two yellow stars"], guidence=2.0)  # type: ignore[call-arg]
replay("best.png", candidat=3)  # type: ignore[call-arg]
