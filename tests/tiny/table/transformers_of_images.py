"""Pipelines around a transformer that make images from text."""

from tiny.table.entry import Entry

ENTRIES: dict[str, Entry] = {}
