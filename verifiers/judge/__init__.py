"""Judges: vision language models behind an address or on this machine, asked for grades by a rubric."""
