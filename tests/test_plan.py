"""Ids, seeds, values and evaluation steps: what stays as it was when a suite grows."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import fake_study

from bench.ask import check, document, plan
from bench.ask.description import Component
from bench.ask.plan import Given
from bench.errors import BenchError
from bench.keep import records
from bench.show import plans

SUITE = """
suite: s
workloads:
  - name: a
    model: mlp
    dataset: digits
    optimizer: momentum
    batch_sizes: [8, 64]
    target: {validation_error: {at_most: 0.1}}
    max_steps: 1000
    search: {trials: 4, learning_rate: {log_uniform: [0.01, 1]}, momentum: {reverse_log_uniform: [0.5, 0.99]}}
    confirm: {seeds: 2}
"""


def trials_of(text):
    """(workload, batch size, phase, number) -> everything a trial is."""
    found = {}
    for study in plan.make(check.check(document.parse(text))).studies:
        draws = study.draws()
        for trial in [*draws, *study.confirmations([draws[0]], [100])]:
            what = (trial.id, trial.metaparameters, trial.init_seed, trial.order_seed, trial.max_steps)
            found[study.workload.name, study.batch_size, trial.phase, trial.number] = what
    return found


def changed(*replacements):
    text = SUITE
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return text


WORKLOAD = SUITE[SUITE.index("  - name") :]


@pytest.mark.parametrize(
    "text",
    [
        changed(("workloads:\n", "workloads:\n" + WORKLOAD.replace("name: a", "name: b"))),
        changed(("[8, 64]", "[4, 8, 64]")),
        changed(("trials: 4", "trials: 5")),
        changed(("seeds: 2", "seeds: 3")),
        changed(("suite: s", "suite: other\ndescription: another name and description")),
        changed(("    dataset: digits\n", ""), ("workloads", "defaults: {dataset: digits}\nworkloads")),
        changed(("model: mlp", "model: {mlp: {}}")),
        changed(("model: mlp", "model: [mlp]")),
    ],
    ids=["a workload", "a batch size", "a trial", "a seed", "a description", "defaults", "no options", "a list of one"],
)
def test_what_is_added_to_a_suite_leaves_every_other_trial_as_it_was(text):
    before, after = trials_of(SUITE), trials_of(text)
    assert {key: after[key] for key in before} == before


def test_making_a_scalar_a_list_renames_its_workload_and_leaves_seeds_and_values():
    before, after = trials_of(SUITE), trials_of(changed(("model: mlp", "model: [softmax, mlp]")))
    kept = {("a", *key[1:]): what for key, what in after.items() if key[0] == "a-mlp"}
    assert kept == before


@pytest.mark.parametrize(
    ("key", "values"),
    [("order", ("reshuffle", "single")), ("micro_batch", ("8", "auto")), ("precision", ("fp32", "fp64"))],
)
def test_a_list_of_a_scalar_gives_each_workload_the_trials_it_would_have_alone(key, values):
    both = trials_of(changed(("confirm:", f"{key}: [{', '.join(values)}]\n    confirm:")))
    ids = set()
    for value in values:
        alone = trials_of(changed(("confirm:", f"{key}: {value}\n    confirm:")))
        listed = {("a", *place[1:]): what for place, what in both.items() if place[0] == f"a-{key}={value}"}
        assert listed == alone
        ids |= {what[0] for what in alone.values()}
    assert len(ids) == len(both)


@pytest.mark.parametrize(
    "replacement",
    [
        ("name: a", "name: b"),
        ("model: mlp", "model: {mlp: {hidden: [8]}}"),
        ("optimizer: momentum", "optimizer: nesterov"),
        ("at_most: 0.1", "at_most: 0.2"),
        ("at_most: 0.1", "below: 0.1"),
        ("max_steps: 1000", "max_steps: 1001"),
        ("[0.01, 1]", "[0.01, 2]"),
        ("[8, 64]", "[16, 128]"),
        ("confirm:", "race: false\n    confirm:"),
        ("confirm:", "evaluate: {resolution: 0.1}\n    confirm:"),
        ("confirm:", "growth: {double_at: [100]}\n    confirm:"),
        ("confirm:", "growth: {adaptive: noise_scale, most: 128}\n    confirm:"),
    ],
)
def test_whatever_changes_a_trial_changes_its_id(replacement):
    before = {what[0] for key, what in trials_of(SUITE).items() if key[2] == "search"}
    assert before.isdisjoint(what[0] for what in trials_of(changed(replacement)).values())


def test_every_id_of_a_plan_is_its_own():
    ids = [what[0] for what in trials_of(changed(("optimizer: momentum", "optimizer: [momentum, nesterov]"))).values()]
    assert len(set(ids)) == len(ids) == 2 * 2 * (8 + 2)


def test_trials_are_the_same_in_a_fresh_process_with_another_hash_seed():
    code = "import sys, json, test_plan as t; print(json.dumps(list(t.trials_of(t.SUITE).values())))"
    folder = str(Path(__file__).parent)
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": folder},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout) == [list(what) for what in trials_of(SUITE).values()]


def test_a_study_has_twice_its_trials_in_draws_for_those_that_diverge():
    assert [trial.number for trial in fake_study(trials=5).draws()] == list(range(10))


def test_trials_of_a_search_start_apart_and_see_the_data_in_one_order():
    draws = fake_study(trials=8).draws()
    assert len({trial.init_seed for trial in draws}) == 16
    assert len({trial.order_seed for trial in draws}) == 1
    assert {trial.max_steps for trial in draws} == {1000}


def test_confirmations_are_the_winner_again_from_other_starts_in_other_orders_for_three_times_its_steps():
    study = fake_study(seeds=4)
    draws = study.draws()
    again = study.confirmations([draws[2]], [70])
    seeds = {seed for trial in again for seed in (trial.init_seed, trial.order_seed)}
    assert len(seeds) == 8
    assert seeds.isdisjoint(seed for trial in draws for seed in (trial.init_seed, trial.order_seed))
    assert {trial.max_steps for trial in again} == {210}
    assert all(trial.metaparameters == draws[2].metaparameters and trial.phase == "confirm" for trial in again)


def test_the_most_steps_of_a_study_count_replacements_and_confirmations():
    assert fake_study(trials=4, seeds=5, max_steps=100).most_steps == 100 * (2 * 4 + 3 * 5)


def looking(resolution, cost, batch_size=8):
    text = changed(("confirm:", f"evaluate: {{resolution: {resolution}, cost: {cost}}}\n    confirm:"))
    return plan.Study(plan.make(check.check(document.parse(text))).workloads[0], batch_size)


@pytest.mark.parametrize("batch_size", [1, 8, 512, 50_000])
@pytest.mark.parametrize("validation_examples", [1, 300, 5000])
@pytest.mark.parametrize(("resolution", "cost"), [(0.05, 1.0), (0.2, 4.0), (1.0, 0.01)])
@pytest.mark.parametrize("until", [1, 7, 20_000])
def test_evaluations_resolve_alike_at_every_step_and_cost_a_bounded_share(
    batch_size, validation_examples, resolution, cost, until
):
    looks = list(looking(resolution, cost, batch_size).evaluations(validation_examples, until))
    assert (looks[0].step, looks[-1].step) == (0, until)
    for before, after in itertools.pairwise(looks):
        gap = after.step - before.step
        assert 0 < gap <= max(1, min(resolution, 0.25) * before.step)
        assert min(validation_examples, 500) <= after.examples <= validation_examples
        assert after.examples <= max(500, cost * gap * batch_size)


@pytest.mark.parametrize("cost", [0.01, 1, 100])
def test_where_a_trial_is_evaluated_does_not_depend_on_what_that_may_cost(cost):
    steps = [step for step, _ in looking(0.05, cost).evaluations(5000, 3000)]
    assert steps == [step for step, _ in looking(0.05, 1).evaluations(5000, 3000)]


def test_confirmations_are_evaluated_whole_and_densely_from_half_the_steps_of_the_search_on():
    study = looking(0.5, 0.01)
    looks = list(study.confirmation(5000, 3000, 1000))
    assert (looks[0].step, looks[-1].step) == (0, 3000)
    sparse = [look for look in looks if look.step < 500]
    assert sparse == [look for look in study.evaluations(5000, 3000) if look.step < 500]
    for before, after in itertools.pairwise(looks):
        assert after.step - before.step <= max(1, (0.05 if before.step >= 500 else 0.25) * before.step)
        assert after.examples == (5000 if before.step >= 500 else 500)


def test_workloads_and_studies_come_in_the_order_of_the_suite():
    text = changed(("model: mlp", "model: [mlp, softmax]"), ("optimizer: momentum", "optimizer: [nesterov, momentum]"))
    made = plan.make(check.check(document.parse(text)))
    names = ["a-mlp-nesterov", "a-mlp-momentum", "a-softmax-nesterov", "a-softmax-momentum"]
    assert [workload.name for workload in made.workloads] == names
    assert [(study.workload.name, study.batch_size) for study in made.studies] == [
        (n, b) for n in names for b in (8, 64)
    ]


RULES = changed(
    ("{log_uniform: [0.01, 1]}", "{at: 16, value: 0.1, scale: linear}"),
    ("{reverse_log_uniform: [0.5, 0.99]}", "{half_life: 64}"),
)


def test_a_scaling_rule_draws_what_the_constant_it_gives_draws_at_each_batch_size():
    found = trials_of(RULES)
    for size in (8, 64):
        given = changed(
            ("[8, 64]", f"[{size}]"),
            ("{log_uniform: [0.01, 1]}", str(0.1 * size / 16)),
            ("{reverse_log_uniform: [0.5, 0.99]}", str(0.5 ** (size / 64))),
        )
        # Ids and seeds included: it is another way to write the same trials.
        assert trials_of(given) == {key: what for key, what in found.items() if key[1] == size}


def test_a_study_with_a_rule_tells_the_archive_the_rule_and_has_an_id_of_its_own():
    ruled, given = (plan.make(check.check(document.parse(text))).studies[0] for text in (RULES, SUITE))
    assert ruled.id != given.id
    rule = {"at": 16, "value": 0.1, "scale": "linear"}
    assert records.content_of(ruled)["space"] == {
        "learning_rate": rule,
        "momentum": {"half_life": 64.0, "tokens_per_example": 1},
    }


def test_ids_stay_what_they_are_while_a_suite_says_nothing_new(monkeypatch):
    monkeypatch.setattr(Component, "source", property(lambda _: None))  # there was none of bench's own
    (study, _) = plan.make(check.check(document.parse(SUITE))).studies
    assert (study.id, study.draws()[0].id) == ("e437a946178a8889", "1aed8625ab1d64df")


# ---- data of one's own ---------------------------------------------------------------------------------------------


def planned(data, dataset="{text: {path: mine}}"):
    text = changed(
        ("dataset: digits", f"dataset: {dataset}"),
        ("max_steps", "measure: [steps_to_target, throughput]\n    max_steps"),
    )
    return plan.make(check.check(document.parse(text)), data=data)


def test_what_lies_at_a_path_of_ones_own_is_part_of_what_is_measured_and_where_its_folder_lies_is_not(tmp_path):
    for name, text in {"here": "abc", "there": "abc", "other": "abd"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text(text)
    here, there, other = (planned(tmp_path / name) for name in ("here", "there", "other"))
    assert [unit.id for unit in here.units] == [unit.id for unit in there.units]
    for before, after in zip(here.units, other.units, strict=True):
        assert before.id != after.id
    before, after = (made.studies[0].draws()[0] for made in (here, other))
    assert before.id != after.id
    assert (before.metaparameters, before.init_seed) == (after.metaparameters, after.init_seed)


def test_a_path_that_a_suite_leaves_to_its_dataset_is_looked_at_too(tmp_path):
    ids = set()
    for text in ("abcd", "dcba"):
        (tmp_path / "mine.csv").write_text(text)
        ids.add(planned(tmp_path, "'user_models:from_a_file'").studies[0].id)
    assert len(ids) == 2


def test_a_folder_of_ones_own_is_known_by_the_names_and_sizes_of_its_files(tmp_path):
    ids = set()
    image = tmp_path / "pets" / "train" / "cats" / "1.png"
    image.parent.mkdir(parents=True)
    for change in (
        lambda: image.write_bytes(b"one"),
        lambda: image.write_bytes(b"longer"),
        lambda: image.rename(image.with_name("2.png")),
        lambda: image.parent.rename(image.parent.with_name("dogs")),
    ):
        change()
        ids.add(planned(tmp_path, "{image_folder: {path: pets}}").studies[0].id)
    assert len(ids) == 4


@pytest.mark.parametrize("path", ["mine", "/nowhere/at/all", '"\\0"', "x" * 5000])
def test_a_suite_whose_data_is_not_there_yet_is_planned_and_is_another_once_it_is(tmp_path, path):
    absent = planned(tmp_path, f"{{text: {{path: {path}}}}}").studies[0]
    assert absent.id == planned(tmp_path / "elsewhere", f"{{text: {{path: {path}}}}}").studies[0].id
    if path == "mine":
        (tmp_path / "mine").write_text("abc")
        assert absent.id != planned(tmp_path).studies[0].id


@pytest.mark.parametrize("dataset", ["digits", "{digits: {subset: 500}}", "wikitext2", "imagenet"])
def test_a_dataset_without_a_path_is_known_by_its_name(tmp_path, dataset):
    assert planned(tmp_path, dataset).studies[0].id == planned(None, dataset).studies[0].id


def test_a_batch_that_grows_is_not_timed_where_all_is():
    growing = WORKLOAD.replace("name: a", "name: b") + "    growth: {double_at: [100]}\n"
    made = plan.make(check.check(document.parse(SUITE + growing)), timed=True)
    assert {study.workload.name for study in made.studies} == {"a", "b"}
    assert {timing.workload.name for timing in made.timings} == {"a"}


def test_several_devices_train_the_same_draws_from_the_same_start_in_the_same_order():
    one, two = (
        plan.make(check.check(document.parse(SUITE + f"    devices: {count}\n"))).studies[0] for count in (1, 2)
    )
    assert one.id != two.id
    seen = [[(each.metaparameters, each.init_seed, each.order_seed) for each in study.draws()] for study in (one, two)]
    assert seen[0] == seen[1]


def test_one_device_said_or_left_out_gives_the_same_ids():
    said, unsaid = (plan.make(check.check(document.parse(SUITE + end))) for end in ("    devices: 1\n", ""))
    assert [study.id for study in said.studies] == [study.id for study in unsaid.studies]


def test_a_list_of_devices_makes_a_workload_of_each():
    made = plan.make(check.check(document.parse(SUITE + "    devices: [1, 2]\n")))
    assert [(each.name, each.devices) for each in made.workloads] == [("a-devices=1", 1), ("a-devices=2", 2)]


@pytest.mark.parametrize(
    ("search", "confirm", "trials", "steps"),
    [
        ("", "{seeds: 2}", 4 + 6, 8 + 6),
        ("", "{top: 1, seeds: 2}", 4 + 2, 8 + 2),
        ("", "{top: 5, seeds: 0}", 4, 8),
        ("refine: 3, ", "{top: 2, seeds: 4}", 4 + 3 + 8, 8 + 3 + 8),
        ("", "{top: 100, seeds: 2}", 4 + 8, 8 + 8),
    ],
)
def test_a_plans_cost_counts_every_confirmation_and_what_refines_the_search(search, confirm, trials, steps):
    text = changed(("trials: 4", f"{search}trials: 4"), ("{seeds: 2}", confirm))
    made = plan.make(check.check(document.parse(text)))
    (entry,) = made.suite.content.workloads
    assert entry.trial_count(10**6) == 2 * trials
    assert [study.most_steps for study in made.studies] == [1000 * steps] * 2
    dearer = plan.make(check.check(document.parse(changed(("{seeds: 2}", "{top: 9, seeds: 9}"))))).studies
    assert all(study.expected_cost < other.expected_cost for study, other in zip(made.studies, dearer, strict=True))


def test_trials_that_differ_in_their_seeds_alone_are_confirmed_once():
    constants = changed(
        ("{log_uniform: [0.01, 1]}", "{at: 8, value: 0.1, scale: sqrt}"), ("{reverse_log_uniform: [0.5, 0.99]}", "0.9")
    )
    for text, candidates in ((SUITE, 3), (constants, 1), (constants.replace("value: 0.1", "uniform: [1, 2]"), 3)):
        (entry,) = check.check(document.parse(text)).content.workloads
        assert entry.candidates == candidates


def test_a_plans_table_says_how_many_trials_refine_and_are_confirmed():
    made = plan.make(check.check(document.parse(changed(("trials: 4", "trials: 4, refine: 3")))))
    studies = plans.plan_tables(made)[0]
    trials, confirmations = (studies.columns.index(name) for name in ("trials", "confirmations"))
    assert [(row[trials], row[confirmations]) for row in studies.rows] == [("4 + 3", "3 x 2")] * 2


def test_a_plan_confirms_what_it_is_given_and_searches_elsewhere():
    made = plan.make(check.check(document.parse(SUITE)))
    first, *rest = made.studies
    given = (Given(3, 90, dict.fromkeys(first.workload.space, 0.1)),)
    confirming = made.confirming({(first.workload.name, first.batch_size): given})
    assert [study.given for study in confirming.studies] == [given, *(() for _ in rest)]
    assert [study.id for study in confirming.studies[1:]] == [study.id for study in rest]
    with pytest.raises(BenchError, match="the base was confirmed with odd and the suite has"):
        made.confirming({(first.workload.name, first.batch_size): (Given(3, 90, {"odd": 1}),)})
