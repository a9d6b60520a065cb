"""Names that users type, and the nearest one when they mistype it."""

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str], more: str = "") -> ValueError:
    """The error for a name that doesn't exist: what was given, what there is, and the nearest match."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {what} {name!r}{hint} Expected one of: {', '.join(names)}{more}".replace("' E", "'. E"))
