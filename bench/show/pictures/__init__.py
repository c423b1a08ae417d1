"""Kinds of pictures, one a file: each draws one workload, by a function named like its file (`plot.py`)."""
