"""`samplers` and `verifiers` are also the import names of other distributions: say so before anything goes wrong."""

import importlib.util
from pathlib import Path


def check() -> None:
    """Make sure that both sister packages are the ones that were installed with this package.

    Raises:
        ImportError: another distribution's package is imported in place of ours.
    """
    here = Path(__file__).resolve()
    for name in ("samplers", "verifiers"):
        found = importlib.util.find_spec(name)
        origin = Path(found.origin).resolve() if found is not None and found.origin else None
        expected = here.parent.parent / name / "__init__.py"
        if origin != expected:
            raise ImportError(
                f"noise-search needs its own package {name!r} at {expected}, but Python imports {origin}; "
                "uninstall the other distribution or use a fresh virtual environment"
            )
