"""Schedules: `name(horizon, *, options) -> (step -> factor of the learning rate)`, one file each."""
