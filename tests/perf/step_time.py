"""The timed step against the same step in a bare loop, in alternation: what bench adds to what it measures.

    python tests/perf/step_time.py [--device cuda] [--pairs 41] [--threads 2]

Prints, for each model and batch size, both medians (seconds a step) and the median of the pairs' ratios, with its
interval.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from torch import nn

from bench.ask import check, document, plan
from bench.measure import build, timing
from bench.measure.clock import seconds_of
from bench.stats import median_interval

SUITE = """
suite: step-time
workloads:
  - name: {model}
    model: {model}
    dataset: {{random_images: {{shape: [1, 28, 28], examples: 4096}}}}
    optimizer: {{momentum: {{learning_rate: 0.001, momentum: 0.9}}}}
    batch_sizes: [32, 1024]
    measure: [throughput]
"""


def bare(model: str, batch_size: int, device: torch.device):
    """The step as one would write it by hand; a function of how many to take."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(4096, 1, 28, 28, device=device), torch.randint(10, (4096,), device=device)
    if model == "mlp":
        layers = [nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    else:
        layers = [
            *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(3136, 1024), nn.ReLU(), nn.Linear(1024, 10)),
        ]
    net = nn.Sequential(*layers).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, fused=True)

    def run(steps: int) -> None:
        for row in rows[:steps]:
            loss = nn.functional.cross_entropy(net(inputs.index_select(0, row)), targets.index_select(0, row))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    rows = [torch.randperm(4096, device=device)[:batch_size] for _ in range(1000)]
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=41)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    device = torch.device(asked.device)
    torch.set_num_threads(asked.threads)
    print(f"torch {torch.__version__}, {device}, {asked.threads} threads, {asked.pairs} pairs a row")
    print(f"{'model':>10} {'batch':>6} {'bench':>10} {'bare':>10}  bench/bare")
    for model in ("mlp", "simple_cnn"):
        for timed in plan.make(check.check(document.parse(SUITE.format(model=model)))).timings:
            data = build.data(timed.workload, Path(), device)
            work = timing._Work(timed, timed.processes()[0], data, device)
            by_hand = bare(model, timed.batch_size, device)
            steps = min(1000, timing.warm_up(work, device, 2.0).steps_a_window)
            seconds_of(by_hand, steps, device)
            mine, bares = [], []
            for pair in range(asked.pairs):
                work.prepare(steps)
                for which in (0, 1) if pair % 2 else (1, 0):
                    (mine, bares)[which].append(seconds_of((work.run, by_hand)[which], steps, device) / steps)
            ratio = median_interval([one / other for one, other in zip(mine, bares, strict=True)])
            print(
                f"{model:>10} {timed.batch_size:>6} {statistics.median(mine):>10.3e} {statistics.median(bares):>10.3e}"
                f"  {ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
            )


if __name__ == "__main__":
    main()
