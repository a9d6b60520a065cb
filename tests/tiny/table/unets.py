"""Pipelines around a UNet, and their relatives: cascades, adapters, upscalers."""

from tiny.table.entry import Entry

ENTRIES: dict[str, Entry] = {}
