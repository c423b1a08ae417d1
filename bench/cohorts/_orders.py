"""The order in which a trial of a study sees its training set, as every way of training begins it."""

from __future__ import annotations

from bench import augment
from bench.examples import Data
from bench.order import Order
from bench.plan import Study, Trial


def order_of(study: Study, data: Data, trial: Trial) -> Order:
    """In batches of the study's size, with the numbers that its augmentation draws for each example."""
    entry = study.workload.entry
    draws = augment.draws(entry.augment, data.example_shape)
    return Order(len(data.train), study.batch_size, trial.order_seed, entry.order, draws)
