"""Optimizers: `name(parameters, *, learning_rate, ...) -> torch.optim.Optimizer`, one file each."""
