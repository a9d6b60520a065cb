"""Pipelines that make clips."""

from tiny.table.entry import Entry

ENTRIES: dict[str, Entry] = {}
