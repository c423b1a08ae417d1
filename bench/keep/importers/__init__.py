"""Importers: archives of other programs, read into one of ours, one file each."""
