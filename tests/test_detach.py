"""Runs that nobody waits for, with a Slurm that takes jobs and begins none: a test begins them itself."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from test_run import bench, contents

from bench.ask import check, document, plan
from bench.contracts import Executor
from bench.errors import ArchiveError, ComponentError
from bench.events import Ended, Evaluated, Failed, Finished, Started
from bench.executors._node import NodeExecutor
from bench.executors.local import LocalExecutor
from bench.keep import merge, verify
from bench.keep.archive import Archive
from bench.run import collect, detached, parts, runner

submitit = pytest.importorskip("submitit")

SUITE = """
suite: small
workloads:
  - name: w
    model: softmax
    dataset: digits
    optimizer: sgd
    batch_sizes: {batch_sizes}
    target: {{validation_error: {{at_most: 0.1}}}}
    max_steps: 200
    search: {{trials: 2, learning_rate: {{log_uniform: [0.01, 1]}}}}
    confirm: {{seeds: 1}}
"""
SBATCH = """#!/bin/sh
for number in 0 1 2 3; do echo "7_$number|PENDING|"; done > "$FAKE_SLURM/queue"
echo Submitted batch job 7
"""
SQUEUE = """#!/bin/sh
[ -f "$FAKE_SLURM/queue" ] || { echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1; }
cat "$FAKE_SLURM/queue"
"""
DETACH = ["--executor", "slurm", "--executor-options", "jobs=2", "--detach"]


class Slurm:
    """A queue of jobs as a file, and what was submitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue = folder / "queue"

    def holds(self, *rows: str) -> None:
        self.queue.write_text("".join(f"{row}\n" for row in rows))

    def begin(self, number: int, most: int | None = None, executor: Executor | None = None) -> None:
        """What the job of a part does, until it is killed after so many events."""
        submitted = submitit.core.utils.DelayedSubmission.load(self.folder / "slurm-logs" / f"7_{number}_submitted.pkl")
        whole = runner.run

        def some(*told):
            with closing(whole(*told)) as events:
                yield from islice(events, most)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "run", some)
            submitted.function.work(executor or LocalExecutor(["cpu"]))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("srun", "#!/bin/sh\n")):
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(text)
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    (tmp_path / "small.yaml").write_text(SUITE.format(batch_sizes=[16, 32, 64]))
    return Slurm(tmp_path)


def there(folder, name="there.sqlite"):
    return folder / "results" / "small" / name


def seconds(path):
    """What training took, which no second training would take again."""
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT id, train_seconds FROM trials").fetchall())


def test_a_detached_run_ends_in_the_archive_of_one_that_was_waited_for(slurm, tmp_path):
    bench("run", "small.yaml", "--label", "here", folder=tmp_path)
    out, _ = bench("run", "small.yaml", "--label", "there", *DETACH, folder=tmp_path)
    assert "submitted: 3 studies in 2 jobs" in out
    assert "bench status" in out
    assert "bench collect" in out
    out, _ = bench("status", "small/there", folder=tmp_path)
    assert out.count("pending") == 2
    assert "0 of 3 studies measured; 2 of 2 jobs left" in out
    _, err = bench("run", "small.yaml", "--label", "there", *DETACH, folder=tmp_path, code=2)
    assert "goes on, in jobs 7_0, 7_1" in err
    _, err = bench("collect", "small/there", folder=tmp_path, code=5)
    assert "0 of 3 studies measured; 2 of 2 jobs left, collect again" in err

    slurm.holds("7_0|RUNNING|n1", "7_1|PENDING|")
    slurm.begin(0, most=6)
    bench("collect", "small/there", folder=tmp_path, code=5)
    slurm.begin(0)  # it was requeued
    _, err = bench("collect", "small/there", folder=tmp_path, code=5)
    whole = contents(there(tmp_path))
    assert "1 of 3" in err or "2 of 3" in err
    bench("collect", "small/there", folder=tmp_path, code=5)
    assert contents(there(tmp_path)) == whole

    slurm.begin(1)
    slurm.holds()
    out, _ = bench("status", "small/there", folder=tmp_path)
    assert out.count("done") == 2
    assert str(tmp_path / "slurm-logs" / "7_1_0_log.err") in out
    assert "3 of 3" in bench("collect", "small/there", folder=tmp_path)[0]
    assert contents(there(tmp_path)) == contents(there(tmp_path, "here.sqlite"))
    assert verify.problems(there(tmp_path)) == []
    assert not there(tmp_path, "there.parts").exists()
    assert "3 of 3" in bench("collect", "small/there", folder=tmp_path)[0]
    assert "no detached run of it is left" in bench("status", "small/there", folder=tmp_path)[0]


def test_what_is_known_is_not_measured_again_and_what_a_dead_job_left_is_gone_on_from(slurm, tmp_path):
    (tmp_path / "small.yaml").write_text(SUITE.format(batch_sizes=[16]))
    bench("run", "small.yaml", "--label", "there", folder=tmp_path)
    before = contents(there(tmp_path)), seconds(there(tmp_path))
    (tmp_path / "small.yaml").write_text(SUITE.format(batch_sizes=[16, 64]).replace("seeds: 1", "seeds: 2"))
    out, _ = bench("run", "small.yaml", "--label", "there", *DETACH, folder=tmp_path)
    assert "2 studies in 2 jobs" in out
    slurm.begin(0)
    slurm.holds()
    out, _ = bench("status", "small/there", folder=tmp_path)
    assert "gone" in out
    part = parts.PartFiles(there(tmp_path, "there.parts"), 0).archive
    measured = seconds(part)
    assert measured.items() > before[1].items()
    bench("run", "small.yaml", "--label", "there", folder=tmp_path)  # collects what is there, and measures the rest
    assert set(contents(there(tmp_path))[1]) > set(before[0][1])
    assert seconds(there(tmp_path)).items() > measured.items()
    with Archive.reading(there(tmp_path)) as archive:
        assert len(archive.finished()) == 3
    assert not there(tmp_path, "there.parts").exists()


def test_what_is_damaged_is_a_sentence_and_hides_nothing_else(slurm, tmp_path):
    _, err = bench("status", "small/nowhere", folder=tmp_path, code=2)
    assert "no such archive" in err
    _, err = bench("collect", "results/small/nowhere.sqlite", folder=tmp_path, code=2)
    assert "no such archive" in err
    assert not there(tmp_path, "nowhere.sqlite").exists()
    bench("run", "small.yaml", "--label", "there", *DETACH, folder=tmp_path)
    slurm.begin(1)
    place = there(tmp_path, "there.parts")

    slurm.queue.unlink()  # Slurm does not answer
    out, _ = bench("status", "small/there", folder=tmp_path)
    assert "Unable to contact slurm controller" in out
    assert "unknown" in out
    _, err = bench("collect", "small/there", folder=tmp_path, code=5)
    assert "Unable to contact" in err
    assert place.exists()
    _, err = bench("run", "small.yaml", "--label", "there", folder=tmp_path, code=2)
    assert "whether that goes on is not known" in err

    slurm.holds()
    (place / "0.sqlite").write_bytes(b"SQLite format 3\0 and then nothing of the kind" * 99)
    out, _ = bench("status", "small/there", folder=tmp_path)
    assert "part 0: " in out
    _, err = bench("collect", "small/there", folder=tmp_path, code=5)
    assert "0.sqlite" in err
    assert "what can be saved of these parts" in err
    with Archive.reading(there(tmp_path)) as archive:
        assert archive.finished()
    assert place.exists()

    record = (place / "detached.json").read_text()
    for text in ("", "{}", record[:50], json.dumps([record]), record.replace('"job"', '"jobs"')):
        (place / "detached.json").write_text(text)
        for command in ("status", "collect"):
            _, err = bench(command, "small/there", folder=tmp_path, code=2)
            assert "is not the record of a detached run" in err
    (place / "detached.json").unlink()
    _, err = bench("run", "small.yaml", "--label", "there", *DETACH, folder=tmp_path, code=2)
    assert "no record of the jobs" in err

    (place / "detached.json").write_text(record)
    (place / "0.sqlite").unlink()
    (place / "0.copy.sqlite").unlink()
    assert "part 0: " in bench("status", "small/there", folder=tmp_path)[0]
    _, err = bench("collect", "small/there", folder=tmp_path, code=5)
    assert "no job is left, run the suite again" in err
    assert not place.exists()


def test_jobs_that_cannot_be_left_alone_or_are_not_taken_are_a_sentence_and_leave_nothing(slurm, tmp_path):
    _, err = bench("run", "small.yaml", "--detach", folder=tmp_path, code=2)
    assert "--detach: found an executor that ends with its run" in err
    local = ["--executor", "slurm", "--executor-options", "cluster=local", "--detach"]
    _, err = bench("run", "small.yaml", *local, folder=tmp_path, code=2)
    assert "--detach: found cluster=local" in err
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    _, err = bench("run", "small.yaml", *DETACH, folder=tmp_path, code=2)
    assert "Slurm took no job" in err
    assert "invalid partition" in err
    assert not there(tmp_path, "main.parts").exists()
    assert "0 of 3 studies measured" in bench("status", "small/main", folder=tmp_path)[0]


def test_studies_on_more_devices_than_a_job_asks_for_are_refused_before_any_job_is_submitted(slurm, tmp_path):
    (tmp_path / "small.yaml").write_text(SUITE.format(batch_sizes="[16]\n    devices: [1, 2]"))
    _, err = bench("run", "small.yaml", *DETACH, folder=tmp_path, code=2)
    assert err.strip() == "w-devices=2: found devices: 2; a job has 1, as cpus=1 asks for"
    assert not slurm.queue.exists()
    assert not there(tmp_path, "main.parts").exists()


@pytest.mark.parametrize(
    ("gres", "cpus", "has"),
    [
        (None, 4, (4, "cpus=4")),
        ("lscratch:10", 4, (4, "cpus=4")),
        ("gpu", 8, (1, "gres=gpu")),
        ("gpu:2", 8, (2, "gres=gpu:2")),
        ("gpu:a100:4(S:0-1),gpu:v100", 8, (5, "gres=gpu:a100:4(S:0-1),gpu:v100")),
    ],
)
def test_a_job_has_the_gpus_that_its_gres_asks_for_or_else_its_cpus(gres, cpus, has):
    from bench.executors.slurm import asked_devices

    assert asked_devices(gres, cpus) == has


def test_a_study_that_a_node_cannot_carry_is_told_and_the_others_of_its_part_go_on(slurm, tmp_path, monkeypatch):
    (tmp_path / "small.yaml").write_text(SUITE.format(batch_sizes="[16, 32]\n    devices: [1, 2]"))
    bench("run", "small.yaml", *DETACH, "--executor-options", "cpus=2", folder=tmp_path)
    monkeypatch.setattr("bench.executors.local.cores", lambda: 1)
    for number in (0, 1):
        slurm.begin(number, executor=NodeExecutor(600.0, [], sys.path.copy()))
    slurm.holds("7_1|RUNNING|n1")
    sentence = "w-devices=2: found devices: 2; this machine has 1, cpu"
    out, _ = bench("status", "small/main", folder=tmp_path)
    assert f"part 1: {sentence}" in out
    assert "2 of 4 studies measured" in out
    slurm.holds()
    _, err = bench("collect", "small/main", folder=tmp_path, code=5)
    assert err.startswith(f"{sentence}\n")
    assert "2 of 4 studies measured; no job is left, run the suite again" in err


def test_a_collection_that_is_cut_off_leaves_the_archive_as_it_was(slurm, tmp_path, monkeypatch):
    bench("run", "small.yaml", "--label", "there", *DETACH, folder=tmp_path)
    slurm.begin(0)
    before = contents(there(tmp_path))
    add = merge._add
    added = []

    def cut_off(archive, new):
        add(archive, new)
        added.append(archive.path)
        if len(added) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(merge, "_add", cut_off)
        _, err = bench("collect", "small/there", folder=tmp_path, code=130)
    assert "stopped" in err
    assert contents(there(tmp_path)) == before
    assert verify.problems(there(tmp_path)) == []
    bench("collect", "small/there", folder=tmp_path, code=5)
    assert contents(there(tmp_path)) != before


def test_a_part_whose_components_were_changed_since_measures_nothing(slurm, tmp_path):
    model = tmp_path / "mine.py"
    model.write_text("from bench.models.softmax import softmax as net\n\ndef mine(example_shape, classes):\n")
    model.write_text(model.read_text() + "    return net(example_shape, classes)\n")
    (tmp_path / "small.yaml").write_text(SUITE.format(batch_sizes=[16, 32]).replace("softmax", "'mine:mine'"))
    bench("run", "small.yaml", "--label", "there", *DETACH, folder=tmp_path)
    model.write_text(model.read_text() + "CHANGED = True\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        from bench.ask import components, source

        components.find.cache_clear()
        source.tree_of.cache_clear()
        with pytest.raises(ComponentError, match="was changed since it was submitted"):
            slurm.begin(0)
    sys.modules.pop("mine", None)


TO_SHARE = """
suite: shares
defaults: {dataset: digits, model: softmax, optimizer: {sgd: {learning_rate: 0.1}}, max_steps: 10}
workloads:
  - {name: w, batch_sizes: [8, 16, 32, 64, 128, 256], target: {validation_error: {at_most: 0.1}},
     measure: [steps_to_target, throughput], search: {trials: 2}}
  - {name: open, batch_sizes: {from: 8, to: max}, target: {validation_error: {at_most: 0.1}}, search: {trials: 2}}
"""


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_parts_hold_every_study_once_and_keep_together_what_belongs_together(most):
    made = plan.make(check.check(document.parse(TO_SHARE)))
    shares = parts.shared_out(made.units, most)
    assert 1 <= len(shares) <= most
    assert all(shares)
    assert sorted(unit.id for share in shares for unit in share) == sorted(unit.id for unit in made.units)
    assert sum(any(isinstance(unit, plan.Timing) for unit in share) for share in shares) == 1
    assert sum(any(unit.workload.open_ended for unit in share) for share in shares) == 1
    loads = [sum(unit.expected_cost for unit in share if isinstance(unit, plan.Study)) for share in shares]
    together = sum(study.expected_cost for study in made.studies if study.workload.open_ended)
    largest = max(together, *(study.expected_cost for study in made.studies))
    # Graham's bound for handing the longest out first.
    assert max(loads) <= 4 / 3 * max(largest, sum(loads) / len(shares)) + 1e-9


@pytest.mark.parametrize("too_large", ["throughput", "inference", "steps_to_target"])
def test_what_a_run_would_not_try_is_missed_by_no_collection(tmp_path, too_large):
    workload = "  - {name: open, batch_sizes: {from: 256, to: max, factor: 2},"
    measures = " measure: [steps_to_target, throughput, inference],"
    text = TO_SHARE.replace("  - {name: open, batch_sizes: {from: 8, to: max},", workload + measures)
    made = plan.make(check.check(document.parse(text)))
    with Archive.writing(tmp_path / "a.sqlite") as archive:
        archive.plan(made)
        (unit,) = (unit for unit in made.units if (unit.batch_size, unit.measure) == (512, too_large))
        trial = unit.draws()[0] if isinstance(unit, plan.Study) else unit.processes()[0]
        for event in (Started((trial,)), Ended(trial, "infeasible", 0, 0.0), Finished()):
            archive.record(unit, archive.environment({"device": "cpu"}), event)
        missing = [unit.id for unit in runner.missing(made, archive)]
        assert [study.id for study in collect.unmeasured(archive)] == missing
    open_ended = [unit for unit in made.units if unit.workload.open_ended and unit.batch_size > 512]
    assert {unit.measure for unit in open_ended if unit.id in missing} == (
        set() if too_large == "inference" else {"inference"}
    )


def test_a_part_measures_the_data_that_its_run_was_submitted_with_and_no_other(tmp_path):
    class Looks:
        def rehearse(self, units, folder):
            return [unit.id for unit in units]  # as what would stop them

    (tmp_path / "mine.txt").write_text("abcd")
    text = SUITE.format(batch_sizes=[16]).replace("dataset: digits", "dataset: {text: {path: mine.txt}}")
    made = plan.make(check.check(document.parse(text)), data=tmp_path)
    files = parts.PartFiles(tmp_path, 0)
    with Archive.writing(tmp_path / "whole.sqlite") as archive:
        archive.plan(made)
        parts.begin(archive, made.studies, files)
    with pytest.raises(ComponentError, match=f"^{made.studies[0].id}$"):
        parts.Work(files, tmp_path)(Looks())
    (tmp_path / "mine.txt").write_text("dcba")
    with pytest.raises(ComponentError, match="was changed since it was submitted"):
        parts.Work(files, tmp_path)(Looks())


def test_an_archive_added_twice_is_there_once_with_its_faults(tmp_path):
    made = plan.make(check.check(document.parse(SUITE.format(batch_sizes=[16]))))
    (study,) = made.studies
    whole, part = tmp_path / "whole.sqlite", tmp_path / "part.sqlite"
    with Archive.writing(whole) as archive:
        archive.plan(made)
    with Archive.writing(part) as archive:
        archive.plan(made)
        for _ in range(2):  # the same twice in one archive is two
            archive.fault(study, Failed("it failed"), {})
        archive.record(study, archive.environment({"device": "cpu"}), Finished())
    for _ in range(2):
        with Archive.writing(whole) as archive:
            assert merge.add([part], archive) == []
    assert contents(whole) == contents(part)
    with Archive.reading(whole, whole=True) as archive:
        assert [row[5] for row in archive.rows("faults")] == ["it failed"] * 2


@pytest.fixture
def fake(slurm, tmp_path):
    """A run of two studies, detached in one part whose job is running: its archive, the part, and the studies."""
    path = tmp_path / "whole.sqlite"
    made = plan.make(check.check(document.parse(SUITE.format(batch_sizes=[16, 32]))))
    with Archive.writing(path) as archive:
        archive.plan(made)
        part = parts.PartFiles(parts.folder_of(path), 0)
        part.folder.mkdir()
        parts.begin(archive, made.studies, part)
    record = detached.Record(submitted="now", parts=(detached.PartRecord(job="7_0", log="log", studies=2),))
    detached.record_of(path).write_text(record.model_dump_json())
    slurm.holds("7_0|RUNNING|n1")
    return path, part, made.studies


def tell(archive, study, node, value, *, finished=True):
    """Writes what a job on a node would of a study, without training anything."""
    environment = archive.environment({"device": node})
    trials = study.draws()
    ends = [Ended(each, "overtaken" if number else "reached", 10, 1.0) for number, each in enumerate(trials)]
    seen = Evaluated(10, {each.id: {"validation_error": value} for each in trials})
    for event in (Started(trials), seen, *ends, *([Finished()] if finished else [])):
        archive.record(study, environment, event)


def test_what_was_collected_of_a_study_half_way_gives_way_where_its_job_is_requeued_on_an_unlike_node(slurm, fake):
    path, part, (first, second) = fake
    with Archive.writing(part.archive) as there:
        tell(there, first, "n1", 0.05, finished=False)
        there.copy(part.copy)
    assert collect.collect(path).refused == ()
    with Archive.writing(part.archive) as there:
        tell(there, first, "n2", 0.05000000000000001)
        tell(there, second, "n2", 0.05)
    told = contents(part.archive)
    slurm.holds()
    got = collect.collect(path)
    assert (got.missing, got.refused) == (0, ())
    assert contents(path) == told
    assert not part.folder.exists()


def test_a_part_that_contradicts_what_was_measured_is_kept_and_so_is_what_the_others_hold(slurm, fake, tmp_path):
    path, part, (first, _) = fake
    with Archive.writing(part.archive) as there:
        tell(there, first, "n1", 0.05)
    with Archive.writing(path) as archive:
        tell(archive, first, "here", 0.06)
    slurm.holds()
    _, err = bench("collect", path, folder=tmp_path, code=5)
    assert "contradicts" in err
    assert "bench merge" in err
    assert "bench verify" not in err
    assert part.archive.exists()


def test_a_part_that_is_being_written_is_not_over_whatever_the_queue_says(slurm, fake, tmp_path):
    path, part, (first, second) = fake
    elsewhere = "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1\n"
    (tmp_path / "bin" / "squeue").write_text(elsewhere)
    with Archive.writing(part.archive) as there:  # as its job does, for the lock is the open file's
        tell(there, first, "n1", 0.05)
        there.copy(part.copy)
        tell(there, second, "n1", 0.05)
        (seen,) = collect.status(path).parts
        assert seen.state == "unknown"
        assert "another bench run is writing to it" in seen.problem
        assert collect.collect(path).missing == 1
        with pytest.raises(ArchiveError, match="goes on, in jobs 7_0"):
            collect.settle(path)
    assert collect.collect(path).missing == 0
    assert not part.folder.exists()


@pytest.mark.parametrize("removed", range(4))
def test_a_removal_that_is_cut_off_is_completed_by_the_next_collection(slurm, fake, monkeypatch, removed):
    path, part, (first, second) = fake
    with Archive.writing(part.archive) as there:
        tell(there, first, "n1", 0.05)
        tell(there, second, "n1", 0.05)
    slurm.holds()
    unlink, left = Path.unlink, list(range(removed))

    def cut_off(file, **told):
        if file.parent == part.folder:
            if not left:
                raise KeyboardInterrupt
            left.pop()
        unlink(file, **told)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", cut_off)
        with pytest.raises(KeyboardInterrupt):
            collect.collect(path)
    assert detached.is_detached(path)
    assert collect.collect(path).missing == 0
    assert not part.folder.exists()


def test_a_part_of_many_short_studies_is_not_copied_for_each(fake, tmp_path):
    _, part, studies = fake
    copies = []

    class Instant:
        def rehearse(self, studies, folder):
            return []

        def run(self, tasks, *, alone=False):
            while tasks:
                yield tasks.popleft(), {"device": "n1"}, Finished()
                with Archive.reading(part.copy) as there:
                    copies.append(len(there.finished()))

    parts.Work(part, tmp_path)(Instant())
    with Archive.reading(part.copy) as there:
        assert there.finished() == {study.id for study in studies}
    assert copies == [0] * len(studies)
