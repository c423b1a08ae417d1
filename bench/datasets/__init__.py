"""Datasets: `name(folder, *, options) -> Data`, one file each, with the constant `SIZES`; `FILE` if it reads one."""
