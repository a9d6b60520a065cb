"""Classes of diffusers, tiny, each with the call that it is tried by: `ENTRIES`, the rows of the table of pipelines.

A class has more than one row where a kind of call is peculiar ("FluxPipeline, true CFG").
"""

from tiny.table import (
    adapters,
    cascades,
    images,
    language_models_of_images,
    seeing_models_of_images,
    seen_images,
    transformers_of_images,
    unet_clips,
    unets,
    videos,
    videos_of_hunyuan,
    videos_of_ltx,
    videos_of_wan,
)
from tiny.table.entry import Entry

ENTRIES: dict[str, Entry] = {
    **adapters.ENTRIES,
    **cascades.ENTRIES,
    **images.ENTRIES,
    **language_models_of_images.ENTRIES,
    **seeing_models_of_images.ENTRIES,
    **seen_images.ENTRIES,
    **transformers_of_images.ENTRIES,
    **unet_clips.ENTRIES,
    **unets.ENTRIES,
    **videos.ENTRIES,
    **videos_of_hunyuan.ENTRIES,
    **videos_of_ltx.ENTRIES,
    **videos_of_wan.ENTRIES,
}
"""By the name of the row, which begins with that of the class."""
