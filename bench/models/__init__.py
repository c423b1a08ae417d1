"""Models: `name(example_shape, classes, *, options) -> torch.nn.Module`, one file each."""
