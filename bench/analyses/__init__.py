"""Analyses: `name(summaries) -> list[Table]`, one file each."""
