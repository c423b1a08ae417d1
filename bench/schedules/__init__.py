"""Schedules: `name(horizon, *, options) -> (step -> factor of the learning rate)`, one file each.

The harness gives each a warm-up, and an option `.._steps` in steps, whether a suite gives it in steps, examples
(`decay_examples`) or epochs (`decay_epochs`).
"""
