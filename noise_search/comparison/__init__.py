"""Comparing algorithms at equal NFE: records of searches, statistics over them, plots and reports."""
