"""Every broken suite is answered with file, line, path, what was found and what would be right, and nothing else."""

import copy
import itertools
import re
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.ask import check, document, plan
from bench.ask.cautions import cautions
from bench.ask.suite import TARGETS, SuiteFile
from bench.errors import SuiteError

SUITES = sorted((Path(__file__).parent.parent / "suites").glob("*.yaml"))
SUITE = """\
suite: s
description: to be broken
workloads:
  - name: a
    model: {mlp: {hidden: [64]}}
    dataset: digits
    optimizer: momentum
    schedule: constant
    batch_sizes: [8, 64]
    target: {validation_error: {at_most: 0.1}}
    max_steps: 1000
    race: true
    search:
      trials: 4
      learning_rate: {log_uniform: [0.01, 1]}
      momentum: 0.9
    confirm: {seeds: 2}
    evaluate: {cost: 2}
"""


def with_lines(lines):
    """The suite with lines, by number from 1, replaced; an empty replacement leaves the line out."""
    text = SUITE.splitlines()
    for number, line in lines.items():
        kept = text[number - 1]
        text[number - 1] = " " * (len(kept) - len(kept.lstrip())) + line if line else "#"
    return "\n".join(text)


def checked(text):
    return check.check(document.parse(text, "s.yaml"))


def sentences(text):
    with pytest.raises(SuiteError) as caught:
        checked(text)
    return str(caught.value).splitlines()


def workloads_of(text):
    return plan.make(checked(text)).workloads


# The first of them: an answer names two dozen at most.
ENTRY_KEYS = "augment, batch_sizes, channels_last, compile, confirm, dataset, decay, deterministic"
PROBES = ".probes.noise_scale"
A_SPACE = "should be a constant, or one of uniform, log_uniform, reverse_log_uniform, integer, choice, as in"

# (line, what stands there, path under workloads[0] or from the root where it begins with /, end of the sentence)
BROKEN = [
    (1, "suite: Quick!", "/suite", "found 'Quick!'; should be lower-case letters, digits, - and _, a letter or digit"),
    (1, "suite: 3", "/suite", "found 3; should be text, in quotes if it looks like something else"),
    (2, "descripton: x", "/descripton", "unknown; did you mean 'description'?"),
    (2, "max_trials: 0", "/max_trials", "found 0; should be greater than 0"),
    (2, "max_trials: 11", "/workloads", "found 20 trials; at most 11 unless the suite gives a larger max_trials"),
    (2, "defaults: 3", "/defaults", "found 3; should be what workloads share, such as {dataset: digits}"),
    (2, "defaults: {modle: mlp}", "/defaults.modle", "unknown; did you mean 'model'?"),
    (2, "defaults: {name: b}", "/defaults.name", "unknown here; a name belongs to one workload, so give it there"),
    (2, "defaults: {search: 3}", "/defaults.search", "found 3; should be a mapping, such as {trials: 16,"),
    (2, "gate: 3", "/gate", "found 3; should be a mapping of measures to rules, such as {steps_to_target: {tol"),
    (2, "gate: {throughput: {tolerance: 0.1, rule: 3}}", "/gate.throughput.rule", "unknown; there is tolerance"),
    (2, "gate: {}", "/gate", "holds no rule; should be a mapping of measures to rules"),
    (2, "gate: {alpha: 0.05}", "/gate", "holds no rule; should be a mapping of measures to rules"),
    (
        2,
        "gate: {peak_memory: {tolerance: 1}}",
        "/gate.peak_memory",
        "a rule for 'a', which does not measure throughput; add it to its 'measure'",
    ),
    (2, "gate: {alpha: 2, peak_memory: {tolerance: 1}}", "/gate.alpha", "found 2; should be less than 0.5"),
    (2, "gate: {throughputs: {tolerance: 1}}", "/gate.throughputs", "unknown; did you mean 'throughput'?"),
    (2, "gate: {workloads: {race: {slac: 1}}}", "/gate.workloads.race.slac", "unknown; there is peak_memory, steps_to"),
    (2, "gate: {throughput: 0.1}", "/gate.throughput", "found 0.1; should be a rule, such as {tolerance: 0.1}"),
    (2, "gate: {throughput: {tolerance: 1}}", "/gate.throughput.tolerance", "found 1; should be less than 1"),
    (2, "gate: {throughput: {tolerence: 1}}", "/gate.throughput.tolerence", "unknown; did you mean 'tolerance'?"),
    (2, "gate: {peak_memory: {}}", "/gate.peak_memory", "has no 'tolerance'; peak_memory needs one"),
    (2, "gate: {steps_to_target: {}}", "/gate.steps_to_target", "should be {tolerance: number}, or {rule: rcp}"),
    (
        2,
        "gate: {steps_to_target: {tolerance: 0.1, rule: rcp}}",
        "/gate.steps_to_target",
        "should be {tolerance: number}, or {rule: rcp}, which takes no tolerance",
    ),
    (
        2,
        "gate: {steps_to_target: {tolerance: -1}}",
        "/gate.steps_to_target.tolerance",
        "found -1; should be at least 0",
    ),
    (
        2,
        "gate: {workloads: {b: {peak_memory: {tolerance: 1}}}}",
        "/gate.workloads.b",
        "unknown workload; there is a",
    ),
    (
        2,
        "gate: {workloads: {a: {peak_memry: {tolerance: 1}}}}",
        "/gate.workloads.a.peak_memry",
        "unknown; did you mean 'peak_memory'?",
    ),
    (4, "- name: a/b", ".name", "found 'a/b'; should be letters, digits, spaces and . _ + -, a letter or digit first"),
    (4, "- name: [a]", ".name", 'found ["a"]; should be text'),
    (12, "probes: {noise_scal: {}}", ".probes.noise_scal", "found 'noise_scal'; did you mean 'noise_scale'?"),
    (12, "probes: [noise_scale]", ".probes", "should be a mapping of probes to their options, such as {noise_scale: {"),
    (12, "probes: {noise_scale: 3}", PROBES, "found 3; should be a mapping, {key: value}"),
    (12, "probes: {noise_scale: {smal: 3}}", f"{PROBES}.smal", "unknown option of noise_scale; did you mean 'small'?"),
    (12, "probes: {noise_scale: {small: 0}}", f"{PROBES}.small", "found 0; should be greater than 0"),
    (12, "probes: {noise_scale: {small: 8, large: 8}}", PROBES, "large should be twice small or more"),
    (
        12,
        "probes: {noise_scale: {large: 15}}",
        PROBES,
        "found small 8 and large 15; large should be twice small or more",
    ),
    (
        12,
        "probes: {curvature_noise: {small: 65}}",
        ".probes.curvature_noise",
        "found small 65 and large 128; large should",
    ),
    (12, "probes: {noise_scale: {every: 2}}", f"{PROBES}.every", "found 2; should be text"),
    (12, "probes: {noise_scale: {every: 1x}}", f"{PROBES}.every", "found '1x'; should be a factor above 1 between the"),
    (12, "probes: {noise_scale: {every: infx}}", f"{PROBES}.every", "should be a factor above 1"),
    (12, "probes: {noise_scale: {every: often}}", f"{PROBES}.every", "should be a factor above 1"),
    (5, "", "", "has no 'model'; a workload needs one"),
    (5, "model: mpl", ".model", "found 'mpl'; did you mean 'mlp'?"),
    (5, "model: {}", ".model", "found {}; should be a name, or {name: {option: value}}"),
    (5, "model: {a: 1, b: 2}", ".model", 'found {"a": 1, "b": 2}; should be a name, or {name: {option: value}}'),
    (5, "model: []", ".model", "found []; should be a model or a list of them, such as mlp or {mlp: {hidden: [64]}}"),
    (5, "model: [mlp, 3]", ".model[1]", "found 3; should be a name"),
    (5, "model: [mlp, softmax, mlp]", ".model", "should name each once, and mlp stands twice"),
    (5, "model: {mlp: {hiden: [64]}}", ".model.mlp.hiden", "unknown option of mlp; did you mean 'hidden'?"),
    (5, "model: {mlp: {hidden: 64}}", ".model.mlp.hidden", "found 64; should be a list, such as [a, b]"),
    (5, "model: {mlp: {hidden: [0]}}", ".model.mlp.hidden", "found [0]; should be greater than 0"),
    (5, "model: {simple_cnn: {variant: big}}", ".model.simple_cnn.variant", "should be 'narrow', 'base' or 'wide'"),
    (5, "model: torchvision:resnet19", ".model", "of torchvision's models, did you mean 'resnet18'?"),
    (5, "model: torchvision:get_model", ".model", "of torchvision's models, there is alexnet, "),
    (5, "model: {'torchvision:resnet18': {weights: x}}", ".model.torchvision:resnet18.weights", "unknown option of"),
    (
        5,
        "model: 'no.such:thing'",
        ".model",
        "no module 'no.such' written in Python is installed, in this folder or in a",
    ),
    (5, "model: 'json:nothing'", ".model", "'json' defines no function or class 'nothing' at its top level; name the"),
    (5, "model: 'json:dumps'", ".model", "dumps cannot be called with (example_shape, classes), as models are"),
    (6, "dataset: mnits", ".dataset", "found 'mnits'; did you mean 'mnist'?"),
    (
        6,
        "dataset: {digits: {size: 3}}",
        ".dataset.digits.size",
        "unknown option of digits; there is label_noise, subset, task",
    ),
    (7, "optimizer: LBFGS", ".optimizer", "found 'LBFGS'; it takes several steps at once"),
    (7, "optimizer: Rprop", ".optimizer", "found 'Rprop'; it reads its learning rate at the first step alone"),
    (7, "optimizer: rmsprop", ".optimizer", "found 'rmsprop'; did you mean 'RMSprop'?"),
    (
        7,
        "optimizer: {momentum: {weight_decay: -1}}",
        ".optimizer.momentum.weight_decay",
        "found -1; should be at least 0",
    ),
    (7, "optimizer: {Adam: {betas: 0.9}}", ".optimizer.Adam.betas", "found 0.9; should be a list"),
    (8, "schedule: {linear: {end_factor: 2}}", ".schedule.linear.end_factor", "found 2; should be at most 1"),
    (8, "schedul: linear", ".schedul", "unknown; did you mean 'schedule'?"),
    (8, "epochs: 3", ".epochs", f"unknown; there is {ENTRY_KEYS}"),
    (9, "batch_sizes: 8", ".batch_sizes", "found 8; should be a list, such as [8, 16, 32]"),
    (9, "batch_sizes: {from: 8}", ".batch_sizes", "has no 'to'; batch_sizes needs one"),
    (9, "batch_sizes: {from: 8, to: maxx}", ".batch_sizes.to", "found 'maxx'; should be"),
    (9, "batch_sizes: {from: 8, to: max, factor: 1}", ".batch_sizes.factor", "found 1; should be at least 2"),
    (9, "batch_sizes: {form: 8, to: max}", ".batch_sizes.form", "unknown; did you mean 'from'?"),
    (9, "batch_sizes: {from: 5000, to: max}", ".batch_sizes.from", "found 5,000; digits has 1,197 training examples"),
    (12, "measure: [throughputt]", ".measure[0]", "found 'throughputt'; should be 'steps_to_target', 'throughput' or"),
    (12, "measure: []", ".measure", "found []; should be a list of steps_to_target, throughput, inference"),
    (12, "growth: 3", ".growth", "found 3; should be {double_at: [500, 2000]}, in examples, or {adaptive: noise_scale"),
    (12, "growth: {adaptive: noise_scale}", ".growth", "has no 'most'; growth needs one"),
    (
        12,
        "growth: {adaptive: noise, most: 9}",
        ".growth.adaptive",
        "found 'noise'; should be 'noise_scale' or 'norm_te",
    ),
    (12, "growth: {double_at: [5, 5]}", ".growth.double_at", "found [5, 5]; should be numbers that rise"),
    (12, "growth: {double_at: []}", ".growth.double_at", "found []; should hold at least 1"),
    (12, "growth: {double_at: [0]}", ".growth.double_at[0]", "found 0; should be greater than 0"),
    (12, "growth: {double_at: [9], most: 99}", ".growth.most", "unknown; there is double_at"),
    (12, "growth: {adaptive: norm_test, most: 99}", ".growth", "should have an eta, such as 0.5, for norm_test, and"),
    (12, "growth: {adaptive: noise_scale, eta: 0.5, most: 99}", ".growth", "and none for noise_scale"),
    (12, "growth: {adaptive: norm_test, eta: 2, most: 99}", ".growth.eta", "found 2; should be at most 1"),
    (
        12,
        "growth: {double_at: [1, 2, 3, 4, 5]}",
        ".growth",
        "grows to 2,048; digits has 1,197 training examples to draw from",
    ),
    (12, "growth: {adaptive: noise_scale, most: 1300}", ".growth", "grows to 1,296; digits has 1,197 training exampl"),
    (
        12,
        "growth: {double_at: [9]}\n    measure: [steps_to_target, throughput]",
        ".growth",
        "found growth where throughput is measured, of a step whose batch stays; leave out one of them",
    ),
    (12, "timing: {proceses: 5}", ".timing.proceses", "unknown; did you mean 'processes'?"),
    (12, "timing: {precision: .nan}", ".timing.precision", "found .nan; every number in a suite is finite"),
    (12, "timing: {interconnect: {latency: 1}}", ".timing.interconnect.latency", "unknown; did you mean"),
    (12, "timing: 5", ".timing", "found 5; should be a mapping, such as {processes: 5"),
    (12, "micro_batch: 0", ".micro_batch", "found 0; should be a whole number of examples, or auto"),
    (12, "micro_batch: all", ".micro_batch", "found 'all'; should be"),
    (12, "micro_batch: [8, 0]", ".micro_batch[1]", "found 0; should be a whole number of examples, or auto"),
    (12, "order: [single, singel]", ".order[1]", "found 'singel'; should be 'reshuffle', 'single' or 'with_replaceme"),
    (12, "order: [single, single]", ".order", "should name each once, and single stands twice"),
    (12, "order: []", ".order", "found []; should be the order of examples: reshuffle, single (shuffled once) or"),
    (12, "compile: [1]", ".compile[0]", "found 1; should be true or false"),
    (12, "training: [stacked, one_by_one]", ".training", 'found ["stacked", "one_by_one"]; should be '),
    (12, "compile: 1", ".compile", "found 1; should be true or false"),
    (12, "input: disk", ".input", "found 'disk'; should be 'device' or 'loader'"),
    (10, "", "", "has no 'target'; to measure steps to target a workload needs one"),
    (11, "", "", "has no 'max_steps'; to measure steps to target a workload needs one"),
    (9, "batch_sizes: []", ".batch_sizes", "found []; should be a list, such as [8, 16, 32]"),
    (9, "batch_sizes: [8, 8]", ".batch_sizes", "found [8, 8]; should name each once, and 8 stands twice"),
    (9, "batch_sizes: [0]", ".batch_sizes[0]", "found 0; should be greater than 0"),
    (9, "batch_sizes: [true]", ".batch_sizes[0]", "found true; should be a whole number"),
    (9, "batch_sizes: [8.0]", ".batch_sizes[0]", "found 8.0; should be a whole number, written without a point"),
    (9, "batch_sizes: [8, 1198]", ".batch_sizes[1]", "found 1,198; digits has 1,197 training examples to draw from"),
    (
        9,
        f"batch_sizes: [{10**30}]",
        ".batch_sizes[0]",
        f"found {10**30}; a whole number in a suite has at most 18 digits",
    ),
    (10, "target: []", ".target", "found []; should be a reading and its threshold, such as {validation_error: {at_"),
    (
        10,
        "target: {validation_error: 0.1}",
        ".target.validation_error",
        "found 0.1; should be {at_most: number} or {bel",
    ),
    (
        10,
        "target: {valid_error: {below: 1}}",
        ".target.valid_error",
        "unknown reading; did you mean 'validation_error'?",
    ),
    (
        10,
        "target: {validation_loss: {atmost: 1}}",
        ".target.validation_loss.atmost",
        "unknown; did you mean 'at_most'?",
    ),
    (10, "target: {validation_loss: {}}", ".target.validation_loss", "found {}; should be either {at_most: number} or"),
    (10, "target: {validation_loss: {below: 0}}", ".target.validation_loss.below", "found 0; should be greater than 0"),
    (
        10,
        "target: {validation_loss: {at_most: .nan}}",
        ".target.validation_loss.at_most",
        "found .nan; every number in",
    ),
    (
        10,
        "target: {validation_error: {at_most: 5}}",
        ".target",
        "an error is a share of the examples, at most 1: write 5 %",
    ),
    (11, "max_steps: -5", ".max_steps", "found -5; should be greater than 0"),
    (11, "max_steps: '5'", ".max_steps", "found '5'; should be a whole number"),
    (11, "max_steps: 1e10", ".max_steps", "found 10,000,000,000; should be at most 1,000,000,000"),
    (12, "race: no", ".race", "found 'no'; should be true, false or a mapping, {slack: 1.25}"),
    (12, "race: {slack: 0.5}", ".race.slack", "found 0.5; should be at least 1"),
    (12, "race: {}", ".race", "has no 'slack'; race needs one"),
    (12, "race: {slack: 2, slak: 2}", ".race.slak", "unknown; did you mean 'slack'?"),
    (14, f"trials: {10**18}", ".search.trials", f"found {10**18}; a whole number in a suite has at most 18 digits"),
    (14, f"trials: {10**17}", ".search.trials", f"found {10**17:,}; should be at most 1,000,000"),
    (
        14,
        "trials: 100000",
        "/workloads",
        "found 200,012 trials; at most 100,000 unless the suite gives a larger max_trials",
    ),
    (14, "trails: 4", ".search.trails", "unknown metaparameter of momentum, constant; did you mean 'trials'?"),
    (15, "", ".search", "has no 'learning_rate'; momentum needs one"),
    (15, "learning_rate: [0.1, 1]", ".search.learning_rate", f"found [0.1, 1]; {A_SPACE}"),
    (15, "learning_rate: null", ".search.learning_rate", f"found nothing; {A_SPACE}"),
    (15, "learning_rate: {lg_uniform: [1, 2]}", ".search.learning_rate.lg_uniform", "unknown; did you mean 'log_unif"),
    (
        15,
        "learning_rate: {log_uniform: [0, 1]}",
        ".search.learning_rate.log_uniform[0]",
        "found 0; should be greater than",
    ),
    (15, "learning_rate: {log_uniform: [1]}", ".search.learning_rate.log_uniform", "found [1]; should be [low, high]"),
    (
        15,
        "learning_rate: {uniform: [1, 2, 3]}",
        ".search.learning_rate.uniform",
        "found [1, 2, 3]; should be [low, high]",
    ),
    (
        15,
        "learning_rate: {uniform: [2, 1]}",
        ".search.learning_rate.uniform",
        "found [2, 1]; should be [low, high] with",
    ),
    (15, "learning_rate: {log_uniform: [1e-300, 1e300]}", ".search.learning_rate.log_uniform", "closer to one another"),
    (15, "learning_rate: {uniform: [-1, 1]}", ".search.learning_rate", "for momentum it should be greater than 0"),
    (15, "learning_rate: {choice: []}", ".search.learning_rate.choice", "found []; should be a list of values"),
    (
        15,
        "learning_rate: {choice: [[1]]}",
        ".search.learning_rate.choice[0]",
        "found [1]; should be a number, a word, true",
    ),
    (15, "learning_rate: {choice: [a]}", ".search.learning_rate", "found 'a'; for momentum it should be a number"),
    (
        16,
        "momentum: {reverse_log_uniform: [0.9, 1]}",
        ".search.momentum.reverse_log_uniform[1]",
        "should be less than 1",
    ),
    (16, "momentum: 1", ".search.momentum", "found 1; for momentum it should be less than 1"),
    (
        10,
        "target: {ema_validation_error: {at_most: 0.1}}",
        ".target.ema_validation_error",
        "found no 'ema' under 'search', which asks for the average that it reads: {ema: 0.99}",
    ),
    (16, "clip: 0", ".search.clip", "found 0; for the step it should be greater than 0"),
    (16, "ema: 1.0", ".search.ema", "found 1.0; for the step it should be less than 1"),
    (16, "label_smoothing: 1", ".search.label_smoothing", "found 1; for the step it should be less than 1"),
    (
        16,
        "label_smooth: 0.1",
        ".search.label_smooth",
        "unknown metaparameter of momentum, constant; did you mean 'label",
    ),
    (16, "momentm: 0.9", ".search.momentm", "unknown metaparameter of momentum, constant; did you mean 'momentum'?"),
    (
        16,
        "warmup_steps: {uniform: [0.5, 9]}",
        ".search.warmup_steps",
        "found 0.5; for constant it should be a whole num",
    ),
    (
        16,
        "warmup_steps: {log_uniform: [1, 9.5]}",
        ".search.warmup_steps",
        "whole numbers, as in {integer: [low, high]}",
    ),
    (16, "momentum: {at: 8, value: 0.9}", ".search.momentum", "has no 'scale'; momentum needs one"),
    (16, "momentum: {at: 8, vlaue: 0.9, scale: sqrt}", ".search.momentum.vlaue", "unknown; did you mean 'value'?"),
    (
        16,
        "momentum: {at: 8, value: 0.9, scale: square}",
        ".search.momentum.scale",
        "found 'square'; should be 'linear', 'sqrt', 'inverse_sqrt', 'complement' or 'power'",
    ),
    (
        16,
        "momentum: {at: 8, value: 0.9, scale: sqrt}",
        ".search.momentum",
        "gives 2.545584 at batch size 64; for momentum it should be less than 1",
    ),
    (
        16,
        "momentum: {at: 8, value: 0.8, scale: complement}",
        ".search.momentum",
        "gives -0.6 at batch size 64; should be a number above 0 there",
    ),
    (16, "ema: {at: 16, value: 0.9, scale: linear}", ".search.ema", "gives 3.6 at batch size 64; for"),
    (
        16,
        "momentum: {at: 8, value: 2, scale: power}",
        ".search.momentum",
        "should have a value from 0 to 1 for the scale power",
    ),
    (
        15,
        "learning_rate: {at: 8, value: -1, scale: sqrt}",
        ".search.learning_rate",
        "gives -1 at batch size 8; for mom",
    ),
    (
        15,
        "learning_rate: {log_uniform: [0.01, 1], at: 8}",
        ".search.learning_rate",
        "has no 'scale'; learning_rate needs one",
    ),
    (
        15,
        "learning_rate: {log_unifrm: [0.01, 1], at: 8, scale: linear}",
        ".search.learning_rate.log_unifrm",
        "unknown; did you mean 'log_uniform'?",
    ),
    (
        15,
        "learning_rate: {log_uniform: [0, 1], at: 8, scale: linear}",
        ".search.learning_rate.log_uniform[0]",
        "found 0; should be greater than 0",
    ),
    (
        15,
        "learning_rate: {log_uniform: [0.01, 1], value: 1, at: 8, scale: linear}",
        ".search.learning_rate",
        "integer beside at and scale, and has value and log_uniform",
    ),
    (
        15,
        "learning_rate: {at: 8, scale: linear}",
        ".search.learning_rate",
        "should have one of value, uniform, log_uniform, reverse_log_uniform, integer beside at and scale, and has non",
    ),
    (
        15,
        "learning_rate: {choice: [0.1, 1], at: 8, scale: linear}",
        ".search.learning_rate.choice",
        "unknown here; a choice has no ends to scale, so leave out at and scale",
    ),
    (
        15,
        "learning_rate: {uniform: [-1, 1], at: 8, scale: sqrt}",
        ".search.learning_rate",
        "gives -1 at batch size 8; for momentum it should be greater than 0",
    ),
    (
        16,
        "momentum: {reverse_log_uniform: [0.5, 0.9], at: 8, scale: linear}",
        ".search.momentum",
        "should have one of the scales complement, power for reverse_log_uniform, not linear",
    ),
    (
        16,
        "momentum: {uniform: [0.5, 1.5], at: 8, scale: power}",
        ".search.momentum",
        "should have a range from 0 to 1 for the scale power",
    ),
    (
        16,
        "momentum: {reverse_log_uniform: [0.5, 0.9], at: 8, scale: complement}",
        ".search.momentum",
        "gives -3 at batch size 64; should be a number above 0 there",
    ),
    (
        16,
        "warmup_steps: {integer: [1, 2], at: 64, scale: linear}",
        ".search.warmup_steps",
        "gives [0, 0] at batch size 8; should be [low, high] with low < high there",
    ),
    (
        16,
        "clip: {integer: [1, 2], at: 8, scale: power}",
        ".search.clip",
        "should have one of the scales linear, sqrt, inverse_sqrt for integer, not power",
    ),
    (15, "learning_rate: {at: 1, value: 1e308, scale: linear}", ".search.learning_rate", "gives inf at batch size 8"),
    (16, "momentum: {half_life: 0}", ".search.momentum.half_life", "found 0; should be greater than 0"),
    (
        16,
        "momentum: {half_life: 9, tokens: 2}",
        ".search.momentum.tokens",
        "unknown; there is half_life, tokens_per_example",
    ),
    (16, "momentum: {half_lief: 9}", ".search.momentum.half_lief", "unknown; did you mean 'half_life'?"),
    (
        16,
        "warmup_steps: {at: 8, value: 10, scale: sqrt}",
        ".search.warmup_steps",
        "gives 10 at batch size 8; for constant it should be a whole number",
    ),
    (
        16,
        "warmup_steps: 3\n      warmup_examples: 100",
        ".search",
        "found warmup_steps and warmup_examples for constant; give one of them",
    ),
    (16, "warmup_epochs: -1", ".search.warmup_epochs", "found -1; for constant it should be at least 0"),
    (16, "decay_epochs: 3", ".search.decay_epochs", "unknown metaparameter of momentum, constant; did you mean"),
    (8, "schedule: {linear: {decay_epochs: 0}}", ".schedule.linear.decay_epochs", "found 0; should be greater than 0"),
    (
        8,
        "schedule: {cosine: {decay_steps: 9, decay_epochs: 2}}",
        ".search",
        "found decay_steps and decay_epochs for cosine; give one of them",
    ),
    (8, "schedule: {wsd: {total_epoch: 9}}", ".schedule.wsd.total_epoch", "unknown option of wsd; did you mean 'total"),
    (8, "schedule: {wsd: {shape: sqrt}}", ".schedule.wsd.shape", "found 'sqrt'; should be 'linear' or '1-sqrt'"),
    (8, "schedule: {step: {milestones: [-1]}}", ".schedule.step.milestones", "found [-1]; should be greater than 0"),
    (17, "confirm: 3", ".confirm", "found 3; should be a mapping, such as {top: 3, seeds: 5}"),
    (17, "confirm: {topp: 2}", ".confirm.topp", "unknown; did you mean 'top'?"),
    (17, "confirm: {top: 0}", ".confirm.top", "found 0; should be greater than 0"),
    (17, "confirm: {top: all}", ".confirm.top", "found 'all'; should be a whole number"),
    (17, "confirm: {top: 1000}", ".confirm.top", "found 1,000; should be at most 100"),
    (
        17,
        "confirm: {refine: 4}",
        ".confirm.refine",
        "unknown here; it belongs under 'search', as in search: {refine: 8}",
    ),
    (
        17,
        "confirm: {rule: first}",
        ".confirm.rule",
        "unknown here; it belongs under 'target', as in target: {validation",
    ),
    (
        12,
        "rule: first",
        ".rule",
        "unknown here; it belongs under 'target', as in target: {validation_error: {below: 0.1}",
    ),
    (12, "top: 3", ".top", "unknown here; it belongs under 'confirm', as in confirm: {top: 3}"),
    (14, "rule: first", ".search.rule", "unknown here; it belongs under 'target'"),
    (14, "top: 3", ".search.top", "unknown here; it belongs under 'confirm', as in confirm: {top: 3}"),
    (14, "refine: -1", ".search.refine", "found -1; should be at least 0"),
    (14, f"refine: {10**7}", ".search.refine", "found 10,000,000; should be at most 1,000,000"),
    (14, "refine: 2.5", ".search.refine", "found 2.5; should be a whole number"),
    (
        14,
        "refine: 50000",
        "/workloads",
        "found 100,044 trials; at most 100,000 unless the suite gives a larger max_trials",
    ),
    (
        15,
        "refine: 8",
        ".search.refine",
        "found 8 and no metaparameter with a range; there is nothing to refine, so leave",
    ),
    (
        10,
        "target: {validation_error: {below: 0.1}, rule: frist}",
        ".target.rule",
        "found 'frist'; should be 'isotonic' or",
    ),
    (
        10,
        "target: {validation_error: {below: 0.1}, rule: [first]}",
        ".target.rule",
        'found ["first"]; should be \'isoto',
    ),
    (
        10,
        "target: {validation_error: {below: 0.1}, rule: }",
        ".target.rule",
        "found nothing; should be 'isotonic' or 'f",
    ),
    (
        10,
        "target: {validation_error: {below: 0.1, rule: frist}}",
        ".target.validation_error.rule",
        "found 'frist'; should be 'isotonic' or 'first'",
    ),
    (
        10,
        "target: {validation_error: {below: 0.1, rule: first}, rule: isotonic}",
        ".target",
        "should have its rule once, beside the reading",
    ),
    (
        10,
        "target: {validation_error: {below: 0.1}, rul: first}",
        ".target.rul",
        "unknown reading; did you mean 'rule'?",
    ),
    (10, "target: {rule: first}", ".target", 'found {"rule": "first"}; should name one reading, of validation_error, '),
    (17, "confirm: {seed: 3}", ".confirm.seed", "unknown; did you mean 'seeds'?"),
    (18, "evaluate: {cots: 1}", ".evaluate.cots", "unknown; did you mean 'cost'?"),
    (18, "evaluate: {resolution: 5}", ".evaluate.resolution", "found 5; should be at most 1"),
    (18, "evaluate: {cost: 1e-320}", ".evaluate.cost", "found 1e-320; should be at least 0.001"),
]


def test_rules_of_a_workload_stand_in_place_of_those_for_all_and_change_no_trial():
    gate = "gate: {steps_to_target: {tolerance: 0.2}, workloads: {a: {steps_to_target: {tolerance: 0.5}}}}"
    suite = checked(with_lines({2: gate}))
    assert {name: rule.tolerance for name, rule in suite.content.gate.rules("a").items()} == {"steps_to_target": 0.5}
    studies = [[study.id for study in plan.make(each).studies] for each in (suite, checked(SUITE))]
    assert studies[0] == studies[1]


def test_the_suite_that_is_broken_below_is_sound():
    assert checked(SUITE).name == "s"


@pytest.mark.parametrize(
    ("line", "text", "path", "end"), BROKEN, ids=[text or f"no line {n}" for n, text, _, _ in BROKEN]
)
def test_a_broken_suite_is_answered_with_line_path_and_what_would_be_right(line, text, path, end):
    told = sentences(with_lines({line: text}))
    where = path[1:] if path.startswith("/") else f"workloads[0]{path}"
    matching = [sentence for sentence in told if f": {where}: " in sentence and end in sentence]
    assert matching, told
    # What is missing or too much altogether is answered where the thing stands that it is missing from.
    stands = {"": 4, "/workloads": 3, ".search": 13}.get(path, line)
    assert matching[0].startswith(f"s.yaml:{stands}: {where}: ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "s.yaml:1: holds no mapping; a suite has the keys suite and workloads"),
        ("- a", "s.yaml:1: holds no mapping; a suite has the keys suite and workloads"),
        ("suite: s", "s.yaml:1: has no 'workloads'; a suite needs one"),
        (
            "suite: s\nworkloads: 7",
            "s.yaml:2: workloads: found 7; should be a list of workloads, each begun by '- name:'",
        ),
        (
            "suite: s\nworkloads: []",
            "s.yaml:2: workloads: found []; should be a list of workloads, each begun by '- name:'",
        ),
        (
            "suite: s\nworkloads:\n- 3",
            "s.yaml:3: workloads[0]: found 3; should be a workload, a mapping begun by 'name:'",
        ),
    ],
)
def test_what_is_no_suite_at_all_is_answered_in_one_sentence(text, sentence):
    assert sentences(text) == [sentence]


def test_every_problem_is_told_at_once_in_the_order_of_the_file():
    told = sentences(
        with_lines({1: "suite: S", 5: "model: mpl", 9: "batch_sizes: [-1, 5000]", 11: "max_steps: 0", 14: "trials: 0"})
        + "\n    momentm: 0.9\n"
        + WORKLOAD_B.replace("optimizer: momentum", "optimizer: momentun")
    )
    assert [tuple(sentence.split(": ")[:2]) for sentence in told] == [
        ("s.yaml:1", "suite"),
        ("s.yaml:5", "workloads[0].model"),
        ("s.yaml:9", "workloads[0].batch_sizes[0]"),
        ("s.yaml:9", "workloads[0].batch_sizes[1]"),
        ("s.yaml:11", "workloads[0].max_steps"),
        ("s.yaml:14", "workloads[0].search.trials"),
        ("s.yaml:19", "workloads[0].momentm"),
        ("s.yaml:23", "workloads[1].optimizer"),
    ]


WORKLOAD_B = SUITE[SUITE.index("  - name") :].replace("name: a", "name: b")
DEFAULTS = """\
suite: s
defaults:
  model: mlp
  dataset: digits
  optimizer: [sgd]
  batch_sizes: [8, 5000]
  target: {validation_error: {at_most: 0.1}}
  max_steps: 0
  search:
    trials: 4
    learning_rate: {log_uniform: [0, 1]}
    momentum: 0.9
  confirm: {seeds: -1}
  rase: true
workloads:
  - name: a
  - name: b
    search: {trials: 8}
"""


def test_problems_in_defaults_are_told_once_and_where_they_stand():
    assert sentences(DEFAULTS) == [
        "s.yaml:6: defaults.batch_sizes[1]: found 5,000; digits has 1,197 training examples to draw from",
        "s.yaml:8: defaults.max_steps: found 0; should be greater than 0",
        "s.yaml:11: defaults.search.learning_rate.log_uniform[0]: found 0; should be greater than 0",
        "s.yaml:12: defaults.search.momentum: unknown metaparameter of sgd, constant; "
        "there is clip, ema, label_smoothing, learning_rate, refine, trials, warmup_epochs, warmup_examples, "
        "warmup_steps, weight_decay",
        "s.yaml:13: defaults.confirm.seeds: found -1; should be at least 0",
        "s.yaml:14: defaults.rase: unknown; did you mean 'race'?",
    ]


def test_a_workload_goes_before_the_defaults_and_joins_their_search():
    sound = DEFAULTS.replace(", 5000", "").replace("s: 0", "s: 9").replace("[0, 1]", "[0.1, 1]").replace("-1", "1")
    a, b = checked(sound.replace("    momentum: 0.9\n", "").replace("  rase: true\n", "")).content.workloads
    assert (a.search.trials, b.search.trials) == (4, 8)
    assert a.search.space == b.search.space
    assert a.max_steps == b.max_steps == 9


def test_a_problem_in_what_overrides_the_defaults_is_told_at_the_workload():
    text = SUITE.replace("description: to be broken", "defaults: {max_steps: 5, search: {momentum: 0.5}}")
    told = sentences(text.replace("max_steps: 1000", "max_steps: 0").replace("momentum: 0.9", "momentum: 9"))
    assert [sentence.split(": ")[1] for sentence in told] == ["workloads[0].max_steps", "workloads[0].search.momentum"]


def test_lists_expand_into_a_workload_for_each_combination():
    text = with_lines({5: "model: [softmax, {mlp: {hidden: [8]}}]", 7: "optimizer: [sgd, momentum, adam]"})
    assert [workload.name for workload in workloads_of(text)] == [
        f"a-{model}-{optimizer}"
        for model in ("softmax", "mlp(hidden=[8])")
        for optimizer in ("sgd", "momentum", "adam")
    ]


def test_a_list_of_a_scalar_makes_a_workload_of_each_value_that_has_it_alone():
    lists = "micro_batch: [null, 8]\n    order: [single, reshuffle]\n    precision: [fp64]\n    devices: [1, 2]"
    workloads = workloads_of(with_lines({7: "optimizer: [sgd, momentum]", 12: lists}))
    assert [workload.name for workload in workloads] == [
        f"a-{optimizer}-micro_batch={micro_batch}-order={order}-devices={devices}"
        for optimizer in ("sgd", "momentum")
        for micro_batch in ("none", 8)
        for order in ("single", "reshuffle")
        for devices in (1, 2)
    ]
    assert {(each.entry.micro_batch, each.entry.order) for each in workloads} == set(
        itertools.product((None, 8), ("single", "reshuffle"))
    )
    assert {each.entry.precision for each in workloads} == {"fp64"}


def test_a_list_of_a_scalar_counts_as_many_trials():
    (entry,) = checked(with_lines({12: "order: [single, reshuffle]"})).content.workloads
    assert entry.trial_count(10**6) == 2 * checked(SUITE).content.workloads[0].trial_count(10**6)


def test_a_ghost_batch_is_held_to_each_micro_batch_of_a_list():
    text = with_lines({5: "model: {mlp: {norm: ghost, ghost_batch: 16}}", 12: "micro_batch: [16, 24]"})
    said = "found 16, which does not divide the batch size 64, of which 24 pass at once"
    assert sentences(text) == [f"s.yaml:5: workloads[0].model.mlp.ghost_batch: {said}"]


def test_two_workloads_of_one_name_are_refused():
    (told,) = sentences(SUITE + WORKLOAD_B.replace("name: b", "name: a"))
    assert told == "s.yaml:19: workloads[1].name: makes a workload 'a', and so does workloads[0]; give one another name"


def test_a_metaparameter_of_one_listed_component_is_given_to_it_alone():
    text = with_lines({7: "optimizer: [sgd, momentum]", 8: "schedule: [constant, linear]", 18: "#"})
    text = text.replace("momentum: 0.9", "momentum: 0.9\n      end_factor: 0.1")
    assert {workload.name: set(workload.space) - {"learning_rate"} for workload in workloads_of(text)} == {
        "a-sgd-constant": set(),
        "a-sgd-linear": {"end_factor"},
        "a-momentum-constant": {"momentum"},
        "a-momentum-linear": {"momentum", "end_factor"},
    }


def test_a_metaparameter_of_no_listed_component_is_refused():
    (told,) = sentences(with_lines({7: "optimizer: [sgd, adam]"}))
    assert "workloads[0].search.momentum: unknown metaparameter of sgd, adam, constant; there is beta1, " in told


def test_an_option_may_be_given_once_only():
    (told,) = sentences(with_lines({7: "optimizer: {momentum: {momentum: 0.5}}"}))
    assert told.endswith("workloads[0].search.momentum: given here and as an option of momentum; give it once")


@pytest.mark.parametrize(("max_trials", "fits"), [(100_011, False), (100_012, True)])
def test_a_plan_over_100_000_trials_is_refused_unless_the_suite_says_so(max_trials, fits):
    text = with_lines({2: f"max_trials: {max_trials}", 14: "trials: 50000"})
    if fits:
        assert checked(text)
    else:
        assert sentences(text) == [
            "s.yaml:3: workloads: found 100,012 trials; at most 100,011 unless the suite gives a larger max_trials"
        ]


def test_a_list_of_twenty_thousand_batch_sizes_is_answered_too():
    sizes = ", ".join(map(str, range(1, 20_001)))
    assert "trials; at most 100,000" in sentences(with_lines({6: "dataset: cifar10", 9: f"batch_sizes: [{sizes}]"}))[0]


@pytest.mark.parametrize(
    ("ghost_batch", "more", "said"),
    [
        (32, "", None),
        (100, "", None),
        (3, "", "found 3, which does not divide the batch size 8"),
        (24, "", "found 24, which does not divide the batch size 64"),
        (32, "micro_batch: 32", None),
        (16, "micro_batch: 24", "found 16, which does not divide the batch size 64, of which 24 pass at once"),
        (32, "growth: {double_at: [100]}", "found 32, which does not divide the batch size 8"),
        (16, "devices: [1, 4]", None),
        (16, "micro_batch: 16\n    devices: 2", None),
        (24, "devices: [1, 2]", "found 24, which does not divide the batch size 64"),
        (64, "devices: 2\n    micro_batch: 24", None),
        (24, "devices: 4", None),
        (24, "devices: 2", "found 24, which does not divide the batch size 64, of which 32 pass at once"),
    ],
)
def test_a_ghost_batch_that_does_not_divide_a_larger_batch_is_refused(ghost_batch, more, said):
    text = with_lines({5: f"model: {{mlp: {{norm: ghost, ghost_batch: {ghost_batch}}}}}"}) + f"\n    {more}\n"
    if said is None:
        assert checked(text)
    else:
        assert sentences(text) == [f"s.yaml:5: workloads[0].model.mlp.ghost_batch: {said}"]


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        ({8: "schedule: {linear: {decay_epochs: 3}}"}, "schedule.linear.decay_epochs"),
        ({8: "schedule: linear", 16: "decay_epochs: {log_uniform: [1, 9]}"}, "search.decay_epochs"),
    ],
)
def test_epochs_need_a_dataset_that_says_how_many_examples_it_has(lines, path):
    assert checked(with_lines(lines))
    (told,) = sentences(with_lines(lines | {6: "dataset: random_images"}))
    says = "random_images does not say how many training examples it has; give decay_examples"
    assert told.endswith(f"workloads[0].{path}: {says}")
    assert checked(with_lines(lines | {6: "dataset: {random_images: {subset: 512}}"}))


def test_a_decay_may_be_given_in_steps_by_one_schedule_and_in_epochs_by_the_search():
    told = sentences(with_lines({8: "schedule: {linear: {decay_steps: 9}}", 16: "decay_epochs: 2"}))
    assert told == ["s.yaml:13: workloads[0].search: found decay_steps and decay_epochs for linear; give one of them"]


@pytest.mark.parametrize(
    ("schedule", "search", "horizon"),
    [
        ("linear", "", "decay_steps, decay_examples, decay_epochs"),
        ("cosine", "warmup_epochs: 1", "decay_steps, decay_examples, decay_epochs"),
        ("wsd", "", "total_steps, total_examples, total_epochs"),
        ("step", "", "milestones"),
        ("linear", "decay_steps: 9", None),
        ("linear", "decay_epochs: {log_uniform: [1, 9]}", None),
        ("{cosine: {decay_examples: 900}}", "", None),
        ("{step: {milestones: [100, 200]}}", "", None),
        ("constant", "", None),
        ("inverse_sqrt", "", None),
    ],
)
def test_a_decay_over_max_steps_that_nobody_asked_for_is_said(schedule, search, horizon):
    workloads = workloads_of(with_lines({7: "optimizer: [sgd, momentum]", 8: f"schedule: {schedule}", 16: search}))
    said = [
        f"a-sgd, a-momentum: {schedule} decays over max_steps (1,000), since none of {horizon} is given; a trial that "
        "meets its target much earlier hardly decays"
    ]
    assert cautions(workloads) == (said if horizon else [])


def test_a_decay_of_what_is_only_timed_needs_no_horizon():
    assert cautions(workloads_of(with_lines({8: "schedule: linear", 12: "measure: [throughput]"}))) == []


def test_a_schema_lets_a_rule_stand_beside_its_reading():
    schema = SuiteFile.model_json_schema()
    target = schema["$defs"]["Entry"]["properties"]["target"]
    assert target["properties"]["rule"]["enum"] == ["isotonic", "first"]
    assert set(target["propertyNames"]["enum"]) == {*TARGETS, "rule"}
    assert target["additionalProperties"] == {"$ref": "#/$defs/Threshold"}


def test_labels_are_not_made_noisy_where_the_task_has_none():
    text = with_lines({6: "dataset: {digits: {label_noise: 0.1, task: reconstruction}}"})
    said = "found it with task: reconstruction, which has no labels; leave out one of them"
    assert sentences(text) == [f"s.yaml:6: workloads[0].dataset.digits.label_noise: {said}"]


def test_labels_are_not_smoothed_where_the_task_has_none():
    text = with_lines({6: "dataset: {digits: {task: reconstruction}}", 16: "label_smoothing: {choice: [0, 0.1]}"})
    said = "found it and a dataset with task: reconstruction, which has no labels; leave out one of them"
    assert sentences(text) == [f"s.yaml:16: workloads[0].search.label_smoothing: {said}"]


@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "said"),
    [
        ("adamw", "weight_decay: 0.1", None),
        ("{adamw: {weight_decay: 0.1}}", "", None),
        ("sgd", "weight_decay: {choice: [0, 0.1]}", None),
        ("[sgd, {adamw: {weight_decay: 0.1}}]", "", "sgd"),
        ("sgd", "weight_decay: 0", "sgd"),
        ("{sgd: {weight_decay: 0.0}}", "", "sgd"),
    ],
)
def test_a_decay_of_matrices_alone_needs_a_weight_decay(optimizer, weight_decay, said):
    text = with_lines({7: f"optimizer: {optimizer}", 8: "decay: matrices", 16: weight_decay})
    if said is None:
        assert checked(text)
    else:
        message = f"found matrices and no weight_decay for {said}; give one under 'search', such as 0.01"
        assert sentences(text) == [f"s.yaml:8: workloads[0].decay: {message}"]


def test_a_decay_of_matrices_alone_needs_an_optimizer_that_decays():
    (told,) = sentences(with_lines({7: "optimizer: user_models:by_role", 8: "decay: matrices", 16: ""}))
    assert told.endswith("decay: found matrices; user_models:by_role has no weight_decay, so leave it out")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("batch_sizes: {from: 8, to: mx}", "batch_sizes.to: found 'mx'; should be a whole number above 0, or max"),
        ("batch_sizes: {from: 8, to: 0}", "batch_sizes.to: found 0; should be a whole number above 0, or max"),
    ],
)
def test_the_end_of_a_range_that_is_none_is_told_once(line, sentence):
    assert sentences(with_lines({9: line})) == [f"s.yaml:9: workloads[0].{sentence}"]


@pytest.mark.parametrize("growth", ["{doubling: 4}", "{most: 64}", "{}"])
def test_growth_of_neither_kind_is_told_both(growth):
    (told,) = sentences(with_lines({8: f"growth: {growth}"}))
    assert told.endswith("should be {double_at: [500, 2000]}, in examples, or {adaptive: noise_scale, most: 4096}")


@pytest.mark.parametrize(
    ("optimizer", "metaparameters"),
    [("RMSprop", "alpha: 0.9"), ("SGD", "dampening: 0.1"), ("NAdam", "momentum_decay: 0.01"), ("AdamW", "eps: 1e-7")],
)
def test_a_class_of_torch_optim_is_taken_by_its_name_with_its_own_options(optimizer, metaparameters):
    (workload,) = workloads_of(with_lines({7: f"optimizer: {optimizer}", 16: metaparameters}))
    assert set(workload.space) == {"learning_rate", metaparameters.split(":")[0]}


def test_a_model_of_torchvision_is_taken_by_its_name():
    assert checked(with_lines({5: "model: torchvision:resnet18"}))


MINE = '''
"""Mine."""
raise SystemExit("imported")
SIZES: dict[str, int] = {"train": 10, "validation": 5, "test": 5}
def net(example_shape, classes, *, width: int, depth: int = 2): "A net."
def data(folder): "Ten examples."
def step(parameters, *, learning_rate: float, tail: float = 0.1, **others): "A step."
class Net:
    def __init__(self, example_shape, classes, *, width: int = 3): ...
class Bare(dict): ...
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A package that ends the program when imported, as `mine_N.inner.parts` with no __init__.py but at the top."""
    name = f"mine_{tmp_path.name}".replace("-", "_")
    (tmp_path / name / "inner").mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("raise SystemExit")
    (tmp_path / name / "inner" / "parts.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield f"{name}.inner.parts"
    assert not [module for module in sys.modules if module.startswith(name)]


@pytest.mark.parametrize(
    ("line", "text", "part"),
    [
        (5, "model: {'MINE:net': {width: 4}}", None),
        (5, "model: {'MINE:Net': {width: 4}}", None),
        (5, "model: {'MINE:Bare': {anything: 4}}", None),
        (7, "optimizer: {'MINE:step': {tail: 0.5, whatever: 1}}", "unknown option of MINE:step"),
        (5, "model: 'MINE:net'", "has no 'width'; it needs one"),
        (5, "model: {'MINE:net': {widht: 4, width: 4}}", "unknown option of MINE:net; did you mean 'width'?"),
        (5, "model: {'MINE:net': {width: wide}}", "found 'wide'; should be a whole number"),
        (5, "model: 'MINE:nte'", "defines no function or class 'nte' at its top level"),
        (5, "model: 'MINES:net'", "no module 'MINES' written in Python"),
        (5, "model: 'MINE.net:net'", "no module 'MINE.net' written in Python"),
        (5, "model: 'MINE:data'", "data cannot be called with (example_shape, classes), as models are"),
        (6, "dataset: 'MINE:data'", "found 64; MINE:data has 10 training examples to draw from"),
        (7, "optimizer: {'MINE:step': {tail: high}}", "found 'high'; should be a number"),
    ],
)
def test_a_component_of_ones_own_is_checked_without_being_imported(mine, line, text, part):
    text = with_lines({line: text.replace("MINE", mine)})
    if part is None:
        assert checked(text)
    else:
        assert part.replace("MINE", mine) in "\n".join(sentences(text))


@pytest.mark.parametrize(
    "source", ["def net(:", "\0", "SIZES = {'train': len(x)}\ndef net(a, b): ...", "# coding: no-such"]
)
def test_a_component_whose_file_cannot_be_read_is_a_sentence(tmp_path, monkeypatch, source):
    name = f"broken_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(source, encoding="latin-1")
    monkeypatch.syspath_prepend(tmp_path)
    (told,) = sentences(with_lines({5: f"model: '{name}:net'"}))
    assert told.startswith(f"s.yaml:5: workloads[0].model: {name}.py")


@pytest.mark.parametrize(
    ("constant", "told"),
    [
        ("TOKENS = 'characters'", "the tokens of NAME:data are characters; give validation_bits_per_character"),
        ("TOKENS: str = 'bytes'", None),
        ("TOKENS = 'words'", "NAME.py: found a TOKENS that is not written out; write it as 'bytes' or 'characters'"),
        ("", None),
    ],
)
def test_a_dataset_of_ones_own_may_say_what_its_tokens_are(tmp_path, monkeypatch, constant, told):
    name = f"texts_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(f"raise SystemExit\n{constant}\ndef data(folder): ...")
    monkeypatch.syspath_prepend(tmp_path)
    text = with_lines({6: f"dataset: '{name}:data'", 10: "target: {validation_bits_per_byte: {at_most: 1.5}}"})
    if told:
        assert "\n".join(sentences(text)).endswith(told.replace("NAME", name))
    else:
        assert checked(text)


def test_a_scaling_rule_is_held_to_every_batch_size_of_a_range_too():
    text = with_lines({9: "batch_sizes: {from: 8, to: max}", 16: "momentum: {at: 256, value: 0.6, scale: complement}"})
    (told,) = sentences(text)
    assert told.endswith("search.momentum: gives -0.6 at batch size 1,024; should be a number above 0 there")


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_shipped_passes_the_check(path, monkeypatch):
    monkeypatch.syspath_prepend(str(path.parent.parent))
    assert check.load(path).name == path.stem


def test_every_whole_suite_printed_in_the_readme_passes_the_check():
    printed = re.findall(
        r"^```yaml\n(suite: .*?)^```$", (SUITES[0].parent.parent / "README.md").read_text(), re.M | re.S
    )
    assert printed
    assert [checked(text).text for text in printed] == printed


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_shipped_begins_with_its_question_and_the_paper_that_asked_it(path):
    header = "".join(itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines()))
    assert "?" in header
    assert "arXiv:" in header or path.stem in ("ci_gate", "quick", "throughput", "your_model")


ODD = st.one_of(
    st.sampled_from(
        [None, True, False, 0, -1, 1.5, 10**18, 10**30, 1e300, 5e-324, float("nan"), float("inf"), "", "a:b"]
    ),
    st.sampled_from(
        [[], {}, [[]], [None], {"": {}}, {"a": 1, "b": 2}, [8, "8", None], {"uniform": [2, 1]}, {"mlp": []}]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
)


def places(value, path=()):
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield from places(child, (*path, key))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_a_suite_broken_at_random_passes_or_is_answered_in_sentences(data):
    content = yaml.safe_load(SUITE) | {"defaults": {"search": {"weight_decay": {"uniform": [0, 0.1]}}}}
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([place for place in places(content) if place]))
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        match data.draw(st.sampled_from(["replace", "replace", "rename", "remove"])):
            case "replace":
                holder[path[-1]] = copy.deepcopy(data.draw(ODD))
            case "rename" if isinstance(holder, dict):
                holder[data.draw(st.text(max_size=6) | st.sampled_from(["search", "name", "race"]))] = holder.pop(
                    path[-1]
                )
            case _:
                del holder[path[-1]]
    try:
        made = plan.make(checked(yaml.safe_dump(content, allow_unicode=data.draw(st.booleans()))))
    except SuiteError as error:
        for sentence in str(error).split("\n"):
            assert re.match(r"s\.yaml(:\d+)?: \S", sentence), sentence
    else:
        for study in made.studies[:2]:
            if study.workload.entry.search.trials < 100:
                assert study.id
                assert study.draws()
                assert list(study.evaluations(300, 50))[-1].step == 50


def test_a_value_that_is_none_hides_nothing_else_that_is_wrong():
    told = sentences(with_lines({5: "model: mpl", 9: "batch_sizes: [.nan, 16]"}))
    assert len(told) == 2
    assert "found 'mpl'; did you mean 'mlp'?" in told[0]
    assert "workloads[0].batch_sizes[0]: found .nan; every number in a suite is finite" in told[1]


def test_probes_without_confirmations_have_nothing_to_look_at():
    told = sentences(with_lines({12: "probes: {noise_scale: }", 17: "confirm: {seeds: 0}"}))
    assert told == [
        "s.yaml:12: workloads[0].probes: found probes and confirm: {seeds: 0}; probes look at the confirmations, "
        "so ask for one seed or more"
    ]


def test_a_probe_may_be_given_without_options_and_its_step_factor_with_one():
    (workload,) = workloads_of(with_lines({12: "probes: {noise_scale: , gradient_norm: {examples: 8, every: 1.5x}}"}))
    assert workload.probes == {"noise_scale": {}, "gradient_norm": {"examples": 8}}


TIMED = """\
suite: s
workloads:
  - name: a
    model: softmax
    dataset: digits
    optimizer: {sgd: {learning_rate: 0.1}}
    batch_sizes: {from: 8, to: max, factor: 4}
    measure: [throughput, inference]
"""


def test_what_is_only_timed_needs_no_target():
    made = plan.make(checked(TIMED))
    assert made.studies == ()
    assert [(timed.measure, timed.batch_size) for timed in made.timings] == [
        (what, size) for what in ("throughput", "inference") for size in (8, 32, 128, 512)
    ]


def test_what_is_only_timed_needs_its_learning_rate_all_the_same():
    (told,) = sentences(TIMED.replace("{sgd: {learning_rate: 0.1}}", "sgd"))
    assert "has no 'learning_rate'; sgd needs one" in told


def test_probes_of_what_is_only_timed_have_nothing_to_look_at():
    (told,) = sentences(TIMED + "    probes: {gradient_norm: }\n")
    assert told.startswith("s.yaml:9: workloads[0].probes: found probes and no steps_to_target")


def test_where_the_size_of_a_dataset_is_unknown_a_range_goes_on_to_what_fits():
    made = plan.make(
        checked(TIMED.replace("dataset: digits", "dataset: random_images").replace("factor: 4", "factor: 64"))
    )
    assert {timed.batch_size for timed in made.timings} == {8, 512, 32_768, 2_097_152}


def test_a_range_counts_as_many_trials_as_it_stands_for():
    text = SUITE.replace("[8, 64]", "{from: 1, to: max}").replace("trials: 4", "trials: 9000")
    assert len(plan.make(checked(text)).studies) == 11


def test_a_range_of_batch_sizes_goes_up_to_its_number_where_one_is_given():
    made = plan.make(checked(TIMED.replace("to: max", "to: 100")))
    assert {timed.batch_size for timed in made.timings} == {8, 32}


def test_what_changes_a_steps_time_times_it_anew_and_what_does_not_does_not():
    def ids(more, text=TIMED):
        timed = plan.make(checked(text + more)).timings[0]
        return timed.id, [process.id for process in timed.processes()]

    few, many = (ids(f"    timing: {{processes: {count}}}\n") for count in (2, 4))
    assert few[0] != many[0]
    assert few[1] == many[1][:2]
    read = ids("    timing: {processes: 2, latency_bound: 1, interconnect: {latency_seconds: 1}}\n")
    assert read == few
    target = "    target: {validation_error: {at_most: 0.2}}\n    timing: {processes: 2}\n"
    assert ids(target) == few
    heavy = TIMED.replace("sgd: {", "momentum: {")
    others = [
        ids("    timing: {processes: 2, seconds: 2}\n"),
        ids("    compile: true\n    timing: {processes: 2}\n"),
        ids("    precision: bf16\n    timing: {processes: 2}\n"),
        ids("    input: loader\n    timing: {processes: 2}\n"),
        *(
            ids(f"    search: {{momentum: {momentum}}}\n    timing: {{processes: 2}}\n", heavy)
            for momentum in (0.0, 0.9)
        ),
    ]
    seen = [process for _, processes in (few, *others) for process in processes]
    assert len(set(seen)) == len(seen)


def test_a_step_is_timed_with_nothing_switched_off_that_takes_time():
    text = TIMED.replace("{sgd: {learning_rate: 0.1}}", "momentum")
    (point,) = {
        (process.metaparameters["learning_rate"], process.metaparameters["momentum"])
        for timed in plan.make(
            checked(text + "    search: {learning_rate: {uniform: [0.1, 10]}, momentum: {choice: [0.0, 0.9]}}\n")
        ).timings
        for process in timed.processes()
    }
    assert point == (0.1, 0.9)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("    devices: 3", "found 3, which cannot share a batch of 8 evenly"),
        ("    devices: 2\n    training: stacked", "found training: stacked, which trains many trials on one device"),
        ("    devices: [1, 2]\n    input: loader", "found input: loader; several devices have their examples on them"),
        ("    devices: 2\n    growth: {double_at: [64]}", "found growth; a batch that grows is trained on one device"),
        ("    devices: 2\n    measure: [inference]", "found inference among what is measured"),
    ],
)
def test_what_several_devices_cannot_do_is_said_where_they_are_asked_for(lines, said):
    (sentence,) = sentences(SUITE + lines + "\n")
    assert said in sentence
    assert "s.yaml:19" in sentence
