"""Examples of docstrings are code: they are written without a fence, which pages need."""

import re
import textwrap
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^( *)Example:\n((?:\1 +\S.*\n?|\s*\n)+)", re.MULTILINE)


class FencedExamples(Extension):
    """Puts the indented lines below `Example:` between fences."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called by griffe with every function, class and module that a page names."""
        if obj.docstring is not None and "Example:" in obj.docstring.value:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(found: re.Match[str]) -> str:
    code = textwrap.indent(f"```python\n{textwrap.dedent(found[2]).strip()}\n```", found[1] + "    ")
    return f"{found[1]}Example:\n{code}\n\n"
