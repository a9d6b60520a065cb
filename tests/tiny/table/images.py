"""Pipelines around a transformer that make images from images: edits, masks, controls, references."""

from tiny.table.entry import Entry

ENTRIES: dict[str, Entry] = {}
