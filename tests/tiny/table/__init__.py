"""Classes of diffusers, tiny, each with the call that it is tried by: `ENTRIES`, the table of tested pipelines.

A class has more than one row where a kind of call is peculiar ("FluxPipeline, true CFG").
"""

from tiny.table import (
    images,
    language_models_of_images,
    seeing_models_of_images,
    transformers_of_images,
    unets,
    videos,
)
from tiny.table.entry import Entry

ENTRIES: dict[str, Entry] = {
    **unets.ENTRIES,
    **transformers_of_images.ENTRIES,
    **language_models_of_images.ENTRIES,
    **seeing_models_of_images.ENTRIES,
    **images.ENTRIES,
    **videos.ENTRIES,
}
"""By the name of the row, which begins with that of the class."""
