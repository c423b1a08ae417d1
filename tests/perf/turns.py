"""What `bench ab` says of an interpreter against itself, three times, and of a model that a sleep makes 15 % slower.

Run by hand, on a machine that has little else to do: python tests/perf/turns.py FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SUITE = """
suite: turns
gate: {throughput: {tolerance: 0.05}}
workloads:
  - name: w
    model: sleepy:model
    dataset: digits
    optimizer: sgd
    batch_sizes: [64]
    measure: [throughput]
    search: {learning_rate: 0.1}
    timing: {processes: 1, seconds: 0.5}
"""

MODEL = """
import time
from math import prod

from torch import nn


class Sleepy(nn.Sequential):
    def forward(self, batch):
        time.sleep(SECONDS)
        return super().forward(batch)


def model(example_shape, classes):
    return Sleepy(nn.Flatten(), nn.Linear(prod(example_shape), classes))
"""


def main() -> None:
    folder = Path(sys.argv[1])
    for name, seconds in (("base", "0.010"), ("slower", "0.0115")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "sleepy.py").write_text(MODEL.replace("SECONDS", seconds))
    (folder / "sleepy.py").write_text((folder / "base" / "sleepy.py").read_text())
    (folder / "turns.yaml").write_text(SUITE)
    for base, candidate in [(sys.executable, sys.executable)] * 3 + [("base", "slower")]:
        command = ["ab", "turns.yaml", "--base", base, "--candidate", candidate, "--json", "gate.json"]
        done = subprocess.run([sys.executable, "-m", "bench", *command], cwd=folder, capture_output=True, text=True)
        print(f"{base} and {candidate}: exit code {done.returncode}\n{done.stdout or done.stderr}")
        if done.returncode in (0, 1):
            (ruling,) = json.loads((folder / "gate.json").read_text())["rulings"]
            print(json.dumps({"verdict": ruling["verdict"], **ruling["ratio"]}) + "\n")


if __name__ == "__main__":
    main()
