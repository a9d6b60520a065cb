"""One call that loads prompts from wherever they are."""

import difflib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from noise_search.arguments import check_counts
from noise_search.prompt_sets import published
from noise_search.prompt_sets.embedded import FIXED, PATTERN, embedded, of_split
from noise_search.prompt_sets.reading import ENDINGS, Row, prompts, read
from noise_search.prompt_sets.set import PromptSet, SetPrompt
from noise_search.words import counted, printable, unknown

OnError = Literal["raise", "skip"]
Entry = str | Mapping[str, Any] | SetPrompt

log = logging.getLogger(__name__)


def names() -> tuple[str, ...]:
    """The names that `load` knows; "shapes:SEED:COUNT" stands for as many sets as there are seeds."""
    return (*FIXED, PATTERN, *published.PUBLISHED)


def load(
    source: str | Path | Iterable[Entry] | PromptSet,
    *,
    path: str | Path | None = None,
    limit: int | None = None,
    per_family: int | None = None,
    seed: int | None = None,
    column: str | None = None,
    family_column: str | None = None,
    family: str = "",
    on_error: OnError = "raise",
    revision: str | None = None,
    split: str | None = None,
) -> PromptSet:
    """A set of prompts.

        load("prompts.csv", column="long_prompt")          # a file of yours
        load("partiprompts", per_family=5, seed=0)         # a published set, fetched once
        load("hpdv2", path="downloads/benchmark")          # your own copy of it
        load("shapes"), load("shapes:7:60")                # the embedded world's
        load("shapes-hard", split="validation")            # where one sample is rarely right, to tune by
        load(["a cat", "a dog on a mat"])

    Args:
        source: a file of a kind that `reading` lists; a name of `names()`, in any case, which goes before a file of
            that name; or texts and objects themselves.
        path: your own copy of a published set, its file or the directory with its files; nothing is fetched then.
        limit: how many prompts at most: the first ones, or with a seed as equally many of each family as there are.
        per_family: how many of each family at most, likewise.
        seed: of these choices.
        column: holds the prompts; default the first of `reading.PROMPT_COLUMNS` that a file has, in any case.
        family_column: holds the categories; default the first of `reading.FAMILY_COLUMNS`, where there is one.
        family: of prompts that have none of their own.
        on_error: "raise" names the first row that can't be used; "skip" leaves all such rows out and says so.
        revision: commit of a published set, instead of the one that is pinned.
        split: "validation" or "evaluation", of "shapes" and "shapes-hard"; the latter by default.

    Raises:
        ValueError: an unknown name or column, a row that can't be used, or no prompts at all.
        FileNotFoundError: no such file.
        PromptsUnavailable: a published set that is neither here nor reachable.
        ImportError: a parquet file without pyarrow.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r} must be 'raise' or 'skip'")
    check_counts(limit=limit)
    options: dict[str, Any] = {"column": column, "family_column": family_column, "family": family, "on_error": on_error}
    if split is not None:
        source = of_split(source.strip().lower() if isinstance(source, str) else repr(source), split)
    name = _published(source)
    if name is None and (path is not None or revision is not None):
        given = "path" if path is not None else "revision"
        raise ValueError(f"{given}= belongs to a published set ({', '.join(published.PUBLISHED)}); source={source!r}")
    if name is not None:
        whole = _of_published(name, path, revision, options)
    elif isinstance(source, PromptSet):
        whole = source
    elif isinstance(source, str) and (own := embedded(source.strip().lower())):
        whole = PromptSet(source.strip().lower(), tuple(own))
    elif isinstance(source, str | Path):
        file = _file(source)
        whole = _of_rows(file.stem, [(file.name, read(file), published.family_of(file))], **options)
    else:
        whole = _of_entries(source, options)
    if per_family is not None:
        whole = whole.per_family(per_family, seed)
    if limit is not None and limit < len(whole):
        whole = whole[:limit] if seed is None else whole.sample(limit, seed)
    if more := len(whole) - len(set(whole.texts)):
        most, times = Counter(whole.texts).most_common(1)[0]
        repeat = "repeats" if more == 1 else "repeat"
        told = f"{more} of {len(whole)} prompts {repeat} an earlier one, such as {most!r}, {times} times"
        whole = _noted(whole, f"{whole.name}: {told}; search() takes each of them, compare() each text once")
    return whole


def as_prompt_set(source: str | Path | Iterable[Entry] | PromptSet, **options: Any) -> PromptSet:
    """`load`, where a text that is neither a name nor a file is one prompt.

    Raises:
        ValueError, FileNotFoundError: as `load`; also for one word that looks like a mistyped name or file.
    """
    if isinstance(source, str) and not _is_known(source) and not _looks_like_file(source):
        word = source.strip()
        if " " not in word and difflib.get_close_matches(word.lower(), names(), n=1, cutoff=0.8):
            raise unknown("prompt set", word, names(), f"; if it is the prompt, pass [{word!r}]")
        return load([source], **options)
    return load(source, **options)


_DASHES = str.maketrans("", "", "-_")


def _published(source: object) -> str | None:
    """The name of a published set, however it is written: "HPDv2", "t2i_compbench"."""
    keys = {name.translate(_DASHES): name for name in published.PUBLISHED}
    return keys.get(source.strip().lower().translate(_DASHES)) if isinstance(source, str) else None


def _is_known(source: str) -> bool:
    name = source.strip().lower()
    return _published(source) is not None or name in FIXED or name.startswith("shapes:") or os.path.isfile(source)


def _looks_like_file(source: str) -> bool:
    """A directory or a place in one, a path by its ending, or one word with a separator or an ending.

    "a photo of 3/4 of a cake" is a prompt.
    """
    text = source.strip()
    path = os.path.expanduser(text)
    ends = text.lower().endswith((*ENDINGS, ".tab", ".ndjson")) and "\n" not in text
    word = any(one in text for one in (os.sep, os.altsep) if one)
    word = word or re.fullmatch(r".*[^.]\.[A-Za-z]\w{0,5}", text) is not None
    placed = os.path.isdir(path) or (os.path.dirname(path) != "" and os.path.isdir(os.path.dirname(path)))
    return ends or placed or (word and not re.search(r"\s", text))


def _file(source: str | Path) -> Path:
    if isinstance(source, str) and not os.path.exists(os.path.expanduser(source)) and not _looks_like_file(source):
        shown = printable(source, 60)
        raise unknown("prompt set", shown, names(), f", a file, or prompts in a list: load([{shown!r}])")
    file = Path(source).expanduser()
    if not file.exists():
        beside = sorted(one.name for one in file.parent.iterdir()) if file.parent.is_dir() else []
        near = difflib.get_close_matches(file.name, beside, n=1)
        hint = f"; did you mean {str(file.with_name(near[0]))!r}?" if near else ""
        raise FileNotFoundError(f"no file of prompts at {str(file)!r}{hint}; a prompt itself goes into a list")
    return file


def _of_published(name: str, path: str | Path | None, revision: str | None, options: Mapping[str, Any]) -> PromptSet:
    files = published.fetch(name, revision) if path is None else published.local(name, Path(path).expanduser())
    whole = _of_rows(name, [(file.name, read(file), family) for file, family in files.items()], **options)
    expected = published.PUBLISHED[name]
    if len(files) == len(expected.files) and len(whole) != expected.count:
        return _noted(whole, f"{name}: {counted(len(whole), 'prompt')} where the published set has {expected.count}")
    return whole


def _of_entries(source: Iterable[Entry], options: Mapping[str, Any]) -> PromptSet:
    if not isinstance(source, Iterable) or isinstance(source, bytes | Mapping):
        raise TypeError(f"source={source!r} must be a file, a name, or a list of prompts")
    entries = list(source)
    given = [one for one in entries if isinstance(one, SetPrompt)]
    if given and len(given) == len(entries):
        return PromptSet("prompts", tuple(given))
    values = [one.to_json() if isinstance(one, SetPrompt) else one for one in entries]
    rows = [Row(f"item {at}", value) for at, value in enumerate(values, start=1)]
    return _of_rows("prompts", [("the list", rows, "")], **options)


def _of_rows(
    name: str,
    parts: Sequence[tuple[str, Sequence[Row], str]],
    *,
    family: str,
    on_error: OnError,
    **columns: str | None,
) -> PromptSet:
    """The set of all parts' prompts: of each its name, its rows, and the family that all of them have."""
    found: list[SetPrompt] = []
    notes: list[str] = []
    for where, rows, own in parts:
        usable, problems = prompts(rows, where, family=own or family, **columns)
        found += usable
        if problems and on_error == "raise":
            more = f" ({len(problems) - 1} more like this)" if len(problems) > 1 else ""
            raise ValueError(f"{where}: {problems[0]}{more}; correct it, or leave such rows out with on_error='skip'")
        if problems:
            notes.append(f"{where}: left out {len(problems)} of {counted(len(rows), 'row')}; {problems[0]}")
    if not found:
        raise ValueError("; ".join([f"{parts[0][0]}: no prompts in it", *notes]))
    return _noted(PromptSet(name, tuple(found)), *notes)


def _noted(whole: PromptSet, *notes: str) -> PromptSet:
    new = [note for note in notes if note not in whole.notes]
    for note in new:
        log.warning(printable(note))
    return replace(whole, notes=(*whole.notes, *new))
