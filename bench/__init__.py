"""What the batch size does to training: steps to target, measured and tuned afresh at every batch size."""

__version__ = "0.1.0"
