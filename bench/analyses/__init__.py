"""Analyses: `name(summaries) -> Table`, one file each."""
