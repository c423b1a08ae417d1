"""Where comparisons and verdicts go: one kind of output a file."""
