"""How fast trials train: bench's two ways beside the loops a person writes.

    python tests/perf/training.py [--device cuda] [--models softmax mlp ...] [--batch-sizes 8 32 ...] [--stacks 16 64]

In one process, in random order within each repeat. Speeds are medians over repeats, in trial-steps a second; ratios are
medians of the ratios within a repeat, for a shared machine's speed changes between them:

    tight     a hand-written loop: data on the device, index gather, fused optimizer
    ordinary  what most people write: a DataLoader over images with torchvision's transforms
    one       bench, one by one
    K = n     bench, stacked, n trials at once

A stack whose single step would take longer than --longest seconds is left out. Last comes a study of the quick suite by
race, against the same study with every trial run to its budget.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tabulate import tabulate
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from bench.ask import check, document, plan
from bench.events import Started, Way
from bench.examples import Data, Split
from bench.measure import build, cohort, probing, study
from bench.measure.cohorts.one_by_one import OneByOne
from bench.measure.cohorts.stacked import Stacked
from bench.measure.order import Order

SUITE = """
suite: perf
workloads:
  - name: perf
    model: {model}
    dataset: {dataset}
    optimizer: momentum
    batch_sizes: [{batch_size}]
    target: {{validation_loss: {{below: 1.0e-9}}}}
    max_steps: 1000000
    search: {{trials: 64, learning_rate: {{log_uniform: [1.0e-4, 1.0e-3]}}}}
"""
EXAMPLES = 4096
# Name -> the suite's model, a dataset of the shape meant (its examples are made up here), and that shape.
MODELS = {
    "digits-mlp": ("{mlp: {hidden: [64]}}", "mnist", (1, 8, 8)),
    "softmax": ("softmax", "mnist", (1, 28, 28)),
    "mlp": ("mlp", "mnist", (1, 28, 28)),
    "simple_cnn": ("simple_cnn", "mnist", (1, 28, 28)),
    "resnet8": ("resnet8", "cifar10", (3, 32, 32)),
}


class Images(Dataset):
    """Images of one byte a channel, as they lie on a disk, with the transforms of every tutorial."""

    def __init__(self, pixels: torch.Tensor, targets: torch.Tensor) -> None:
        self.pixels, self.targets = pixels, targets
        mean = [0.5] * pixels.shape[1]
        self.transform = transforms.Compose(
            [transforms.ToPILImage(), transforms.ToTensor(), transforms.Normalize(mean, mean)]
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pixels[index]), int(self.targets[index])


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def candidates(
    model: str, batch_size: int, device: torch.device, stacks: list[int]
) -> dict[str, Callable[[int], float]]:
    """Name -> a function that takes a number of steps and returns the seconds that one trial's step took."""
    spec, dataset, shape = MODELS[model]
    text = SUITE.format(model=spec, dataset=dataset, batch_size=batch_size)
    of = plan.make(check.check(document.parse(text))).studies[0]
    pixels = torch.randint(0, 256, (EXAMPLES, *shape), dtype=torch.uint8)
    inputs = ((pixels.float() / 255 - 0.5) / 0.5).to(device)
    targets = torch.randint(0, 10, (EXAMPLES,)).to(device)
    few = Split(inputs[:10], targets[:10])
    data = Data(Split(inputs, targets), few, few, classes=10)
    trials = of.draws()

    def loop() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        network = build.model(of.workload, data, device, seed=0)
        return network, torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, fused=True)

    tight_model, tight_optimizer = loop()
    order = Order(EXAMPLES, batch_size, seed=0)

    def tight(steps: int) -> float:
        rows = order.take(steps).to(device)
        synchronise(device)
        started = time.perf_counter()
        for row in rows.unbind():
            tight_optimizer.zero_grad()
            loss = functional.cross_entropy(tight_model(inputs.index_select(0, row)), targets.index_select(0, row))
            loss.backward()
            tight_optimizer.step()
        synchronise(device)
        return (time.perf_counter() - started) / steps

    usual_model, usual_optimizer = loop()
    loader = DataLoader(Images(pixels, targets.cpu()), batch_size=min(batch_size, EXAMPLES), shuffle=True)

    def ordinary(steps: int) -> float:
        taken, started = 0, time.perf_counter()
        while taken < steps:
            for batch, labels in loader:
                usual_optimizer.zero_grad()
                loss = functional.cross_entropy(usual_model(batch.to(device)), labels.to(device))
                loss.backward()
                usual_optimizer.step()
                loss.item()
                taken += 1
                if taken == steps:
                    break
        return (time.perf_counter() - started) / steps

    def ours(kind: type[OneByOne] | type[Stacked], number: int) -> Callable[[int], float]:
        cohort = None
        at = 0

        def advance(steps: int) -> float:
            nonlocal cohort, at
            cohort = cohort or kind(of, data, device, trials[:number], Way("stacked", ""))
            before = sum(cohort.train_seconds(trial) for trial in trials[:number])
            at += steps
            seen = cohort.advance(at)
            assert not any(found.diverged_at for found in seen.values())
            return (sum(cohort.train_seconds(trial) for trial in trials[:number]) - before) / steps / number

        return advance

    return {
        "tight": tight,
        "ordinary": ordinary,
        "one": ours(OneByOne, 1),
        **{f"K = {number}": ours(Stacked, number) for number in stacks},
    }


def measure(
    model: str, batch_size: int, device: torch.device, stacks: list[int], repeats: int, longest: float
) -> dict[str, list[float]]:
    """Seconds of one trial's step in each repeat, by candidate; none where a step would take too long."""
    steppers = candidates(model, batch_size, device, stacks)
    step = min(steppers["tight"](2) for _ in range(2))
    trials = {name: int(name.removeprefix("K = ")) if name.startswith("K") else 1 for name in steppers}
    fit = {name: run for name, run in steppers.items() if trials[name] == 1 or step * trials[name] <= longest}
    # Enough steps that a repeat lasts a tenth of a second, and that a stretch's own overhead is what it is in a study.
    steps = {name: max(1 if step > 0.3 else 3 if step > 0.03 else 10, int(0.06 / step / trials[name])) for name in fit}
    steps["ordinary"] = max(1, steps["ordinary"] // 10)  # several times slower, and not the one in question
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for repeat in range(repeats + 1):
        for name in random.sample(list(fit), len(fit)):
            taken = fit[name](steps[name])
            if repeat:  # the first is warm-up
                times[name].append(taken)
    return times


def ratio(over: list[float], under: list[float]) -> str:
    """The median of paired ratios; '-' where one side was left out."""
    pairs = list(zip(over, under, strict=False))
    return f"{statistics.median(a / b for a, b in pairs):.2f}" if pairs else "-"


def race(device: torch.device, repeats: int = 3) -> None:
    """A whole study of the quick suite, search and confirmation: raced, and with every trial run to its budget."""
    text = (Path(__file__).parents[2] / "suites" / "quick.yaml").read_text()
    print("\n| batch | raced, seconds | to the budget, seconds | ratio | same answer |\n|---|---|---|---|---|")
    for place in (0, 3, 6):
        seconds: dict[str, list[float]] = {"true": [], "false": []}
        answers = set()
        for _ in range(repeats):
            for mode, spent in seconds.items():
                suite = text.replace("    max_steps:", f"    race: {mode}\n    max_steps:")
                of = plan.make(check.check(document.parse(suite))).studies[place]
                started = time.perf_counter()
                data = build.data(of.workload, Path(), device)
                look = probing.looker(of, data, device)
                for event in study.run(of, {}, len(data.validation), cohort.maker(of, data, device), look):
                    if isinstance(event, Started) and event.trials[0].phase == "confirm":
                        answers.add((event.trials[0].max_steps, str(event.trials[0].metaparameters)))
                spent.append(time.perf_counter() - started)
        raced, whole = (statistics.median(spent) for spent in seconds.values())
        print(
            f"| {of.batch_size} | {raced:.2f} | {whole:.2f} | {raced / whole:.3f} | {len(answers) == 1} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[8, 32, 128, 512, 2048])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--stacks", nargs="*", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--longest", type=float, default=2.0)
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)  # as in a worker
    print(f"torch {torch.__version__}, {options.device}, 1 thread, {options.repeats} repeats; trial-steps a second")
    columns = ["model", "batch", "tight", "ordinary", "one", *(f"K = {number}" for number in options.stacks)]
    ratios = ["time one/tight", "time ordinary/one", *(f"K = {number} / one" for number in options.stacks)]
    print(tabulate([], [*columns, *ratios], tablefmt="pipe"), flush=True)
    for model in options.models:
        for batch_size in options.batch_sizes:
            seconds = measure(model, batch_size, device, options.stacks, options.repeats, options.longest)
            speeds = [f"{1 / statistics.median(taken):,.0f}" if taken else "-" for taken in seconds.values()]
            row = [model, batch_size, *speeds]
            row += [ratio(seconds["one"], seconds["tight"]), ratio(seconds["ordinary"], seconds["one"])]
            row += [ratio(seconds["one"], seconds[f"K = {number}"]) for number in options.stacks]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
    race(device)


if __name__ == "__main__":
    main()
