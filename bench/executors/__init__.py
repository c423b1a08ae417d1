"""Executors: where studies run, one file each."""
