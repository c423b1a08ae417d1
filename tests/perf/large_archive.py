"""How long `show`, `compare` and `gate` take on an archive of ten million readings. Run by hand:

python tests/perf/large_archive.py FOLDER
"""

from __future__ import annotations

import json
import math
import random
import resource
import subprocess
import sys
from pathlib import Path

from bench.ask import check, document, plan
from bench.ask.plan import Study
from bench.keep.archive import Archive
from bench.keep.records import ImportedTrial, StudyRecord, content_of

STUDIES, TRIALS, SEEDS, READINGS = 25, 94, 6, 4_000

SUITE = """
suite: large
gate: {{steps_to_target: {{tolerance: 0.1}}}}
workloads:
  - name: w
    model: softmax
    dataset: teacher_student
    optimizer: sgd
    batch_sizes: {sizes}
    target: {{validation_loss: {{at_most: 0.1}}}}
    max_steps: 10000
    race: false
    search: {{trials: {trials}, learning_rate: {{log_uniform: [0.01, 1]}}}}
    confirm: {{seeds: {seeds}}}
"""


def write(path: Path, seed: int) -> None:
    """An archive of STUDIES x (TRIALS + SEEDS) x READINGS readings: loss and error at every other step, falling."""
    chance = random.Random(seed)
    made = plan.make(
        check.check(document.parse(SUITE.format(sizes=list(range(1, STUDIES + 1)), trials=TRIALS, seeds=SEEDS)))
    )
    with Archive.writing(path) as archive:
        archive.begin_import()
        environment = archive.environment({"device": "none", "device_type": "cpu", "torch": "0"})
        for study in made.studies:
            record = StudyRecord(study.id, study.workload.name, study.batch_size, content_of(study), True, ())
            archive.import_study(record, environment, trials(study, chance))
        archive.finish_import("large", made.suite.text, [study.id for study in made.studies])


def trials(study: Study, chance: random.Random):
    best = (10_000, None)
    for trial in study.draws()[:TRIALS]:
        reached = 2 * int(500 * math.exp(0.5 + abs(chance.gauss(0, 1))))
        best = min(best, (reached, trial), key=lambda pair: pair[0])
        yield ImportedTrial(trial, "reached", READINGS, readings(reached))
    for trial in study.confirmations([best[1]], [best[0]]):
        yield ImportedTrial(trial, "reached", READINGS, readings(int(best[0] * math.exp(chance.gauss(0, 0.05)))))


def readings(reached: int) -> list[tuple[int, str, float]]:
    found = []
    for step in range(2, READINGS + 2, 2):
        loss = 0.1 * (reached / step)
        found += [(step, "validation_error", loss / 2), (step, "validation_loss", loss)]
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    for label, seed in (("base", 1), ("candidate", 2)):
        path = folder / "results" / "large" / f"{label}.sqlite"
        if not path.exists():
            write(path, seed)
            print(f"{path}: {path.stat().st_size / 1e6:.0f} MB")
    (folder / "large.yaml").write_text(SUITE.format(sizes=list(range(1, STUDIES + 1)), trials=TRIALS, seeds=SEEDS))
    for command in (
        ["show", "results/large/base.sqlite"],
        ["compare", "large/base", "large/candidate"],
        ["gate", "large.yaml", "base", "candidate"],
    ):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "bench", *command], cwd=folder, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps({"command": command[0], "cpu_seconds": round(seconds, 2), "exit_code": done.returncode}))
        if done.returncode not in (0, 1):
            print(done.stderr)


if __name__ == "__main__":
    main()
