"""The ordinary step: micro-batches, precisions, and how many operations it is."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from bench.contracts import OutOfMemory
from bench.errors import ComponentError
from bench.examples import NOT_COUNTED, Data, Split
from bench.measure import build, limits
from bench.measure.losses import LOSSES, of_training
from bench.measure.rehearsal import rehearse
from bench.measure.step import Step
from tests.fakes import study_of

CPU = torch.device("cpu")
SUITE = """
suite: s
workloads:
  - name: w
    model: {model}
    dataset: {{random_images: {{shape: [1, 16, 16], examples: 64}}}}
    optimizer: {{momentum: {{learning_rate: 0.1, momentum: 0.9}}}}
    batch_sizes: [32]
    measure: [steps_to_target, throughput]
    target: {{validation_error: {{at_most: 0.1}}}}
    max_steps: 10
    {more}
"""


def step_of(model="{mlp: {hidden: [16]}}", more="precision: fp64", data=None, metaparameters=None):
    workload = study_of(SUITE.format(model=model, more=more)).workload
    data = data or build.data(workload, None, CPU)
    return Step(workload, data, CPU, seed=0, metaparameters=metaparameters or {}, batch_size=32), data.train


def gradients(step, train, size=32):
    step.optimizer.zero_grad()
    loss = step.backward(train.inputs[:size], train.targets[:size])
    return loss, torch.cat([parameter.grad.flatten() for parameter in step.model.parameters()])


@pytest.mark.parametrize("model", ["softmax", "mlp", "simple_cnn", "{vit_tiny: {width: 24, depth: 2}}"])
@pytest.mark.parametrize("micro_batch", [1, 7, 16, 100])
def test_micro_batches_give_the_gradient_of_the_whole_batch(model, micro_batch):
    whole_loss, whole = gradients(*step_of(model))
    loss, parts = gradients(
        *step_of(model, f"{{precision: fp64, micro_batch: {micro_batch}}}"[1:-1].replace(", ", "\n    "))
    )
    assert float((parts - whole).norm() / whole.norm()) < 1e-12
    assert float(loss) == pytest.approx(float(whole_loss), rel=1e-12)


@pytest.mark.parametrize("model", ["softmax", "mlp", "simple_cnn", "{vit_tiny: {width: 24, depth: 2}}"])
def test_micro_batches_in_float32_agree_to_a_millionth(model):
    _, whole = gradients(*step_of(model, "precision: fp32"))
    _, parts = gradients(*step_of(model, "micro_batch: 8"))
    assert float((parts - whole).norm() / whole.norm()) < 1e-6


def test_batch_norm_makes_micro_batches_another_computation():
    _, whole = gradients(*step_of("resnet8"))
    _, parts = gradients(*step_of("resnet8", "precision: fp64\n    micro_batch: 8"))
    assert float((parts - whole).norm() / whole.norm()) > 1e-3


class Roomy(nn.Module):
    """Has room for so many examples at a time."""

    def __init__(self, room):
        super().__init__()
        self.room, self.linear, self.seen = room, nn.Linear(256, 10), []
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        if len(x) > self.room:
            raise MemoryError("no room")
        self.seen.append(len(x))
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(("room", "found"), [(32, 32), (31, 16), (9, 8), (1, 1)])
def test_an_automatic_micro_batch_is_halved_until_it_fits_and_leaves_no_trace(monkeypatch, room, found):
    monkeypatch.setattr(build, "model", lambda *_: Roomy(room))
    step, train = step_of(more="micro_batch: auto")
    assert step.micro_batch == found
    assert float(step.model.calls) == 0
    step.model.seen.clear()
    step.take(train.inputs[:32], train.targets[:32])
    assert step.model.seen == [found] * (32 // found)


def test_where_not_one_example_fits_it_is_out_of_memory(monkeypatch):
    monkeypatch.setattr(build, "model", lambda *_: Roomy(0))
    with pytest.raises(OutOfMemory):
        step_of(more="micro_batch: auto")


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16", "fp64"])
def test_a_step_lowers_the_loss_in_every_precision(precision):
    step, train = step_of("{mlp: {hidden: [64]}}", f"precision: {precision}")
    losses = [float(step.take(train.inputs[:32], train.targets[:32])) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]


def test_gradients_that_overflow_in_float16_skip_the_step_and_lower_the_scale():
    step, train = step_of(more="precision: fp16")
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    step.take(train.inputs[:32] * 1e4, train.targets[:32])
    assert all(torch.equal(old, new) for old, new in zip(before, step.model.parameters(), strict=True))


def test_channels_last_takes_the_same_step():
    one, train = step_of("simple_cnn")
    other, _ = step_of("simple_cnn", "precision: fp64\n    channels_last: true")
    for step in (one, other):
        step.take(train.inputs[:32], train.targets[:32])
    assert next(other.model.parameters()).is_contiguous(memory_format=torch.channels_last)
    for left, right in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(left, right, rtol=1e-9, atol=1e-12)


# ---- label smoothing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("positions", [(), (5,)])
def test_a_smoothed_loss_is_torchs_own(share, positions):
    torch.manual_seed(0)
    outputs = torch.randn(6, *positions, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(4, (6, *positions))
    targets.view(-1)[::4] = NOT_COUNTED
    expected = functional.cross_entropy(outputs.flatten(0, -2), targets.flatten(), label_smoothing=share)
    found = of_training("cross_entropy", {"label_smoothing": share})(outputs, targets)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    slopes = (torch.autograd.grad(loss, outputs)[0] for loss in (found, expected))
    assert torch.allclose(*slopes, rtol=1e-12, atol=1e-15)


def test_a_smoothed_step_lowers_the_smoothed_loss_and_micro_batches_change_nothing():
    plain, _ = gradients(*step_of())
    whole_loss, whole = gradients(*step_of(metaparameters={"label_smoothing": 0.2}))
    loss, parts = gradients(
        *step_of(more="precision: fp64\n    micro_batch: 7", metaparameters={"label_smoothing": 0.2})
    )
    assert float(loss) == pytest.approx(float(whole_loss), rel=1e-12)
    assert float(whole_loss) != float(plain)
    assert float((parts - whole).norm() / whole.norm()) < 1e-12


@pytest.mark.parametrize("name", ["half_squared_error", "reconstruction", "output"])
def test_what_has_no_labels_has_none_to_smooth(name):
    assert of_training(name, {"clip": 1.0}) is LOSSES[name].mean
    with pytest.raises(ComponentError, match="label_smoothing is for datasets whose targets are classes"):
        of_training(name, {"label_smoothing": 0.1})


def test_smoothing_where_there_are_no_labels_is_found_before_anything_is_trained(tmp_path):
    text = SUITE.format(model="{noisy_quadratic: {dimensions: 8}}", more="search: {label_smoothing: 0.1}")
    text = text.replace("{random_images: {shape: [1, 16, 16], examples: 64}}", "noisy_quadratic")
    (problem,) = rehearse([study_of(text.replace("validation_error", "validation_loss"))], tmp_path)
    assert problem == "w: label_smoothing is for datasets whose targets are classes; this one's are not"


# ---- operations ----------------------------------------------------------------------------------------------------


class Lstm(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(16, 20, num_layers=2, batch_first=True), nn.Linear(20, 10)

    def forward(self, x):
        return self.head(self.lstm(x.flatten(1, 2))[0][:, -1])


class Gru(Lstm):
    """A GRU, which torch makes of products that its counter sees."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.GRU(16, 20, num_layers=2, batch_first=True)


class Encoder(nn.Module):
    """torch's own encoder, which has a path of its own when it is not trained."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, dim_feedforward=24, dropout=0.0, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(256, 10)

    def forward(self, x):
        return self.head(self.encoder(x.flatten(1, 2)).flatten(1))


class Depthwise(nn.Module):
    """A depthwise convolution and a linear layer."""

    def __init__(self):
        super().__init__()
        self.spread, self.deep = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8 * 256, 10)

    def forward(self, x):
        return self.head(self.deep(self.spread(x)).flatten(1))


class Attention(nn.Module):
    """Attention between the rows of an image, by torch's own kernel."""

    def __init__(self):
        super().__init__()
        self.queries, self.head = nn.Linear(16, 48), nn.Linear(256, 10)

    def forward(self, x):
        parts = (part.unsqueeze(1) for part in self.queries(x.flatten(1, 2)).chunk(3, dim=-1))
        return self.head(nn.functional.scaled_dot_product_attention(*parts).flatten(1))


ATTENDED = 16  # patches, or rows
FORWARD = {
    "softmax": 2 * 256 * 10,
    "{mlp: {hidden: [64, 32]}}": 2 * (256 * 64 + 64 * 32 + 32 * 10),
    "simple_cnn": 2 * (25 * 32 * 256 + 25 * 32 * 64 * 64 + 64 * 16 * 1024 + 1024 * 10),
    "{vit_tiny: {width: 24, heads: 3, depth: 1}}": 2
    * (ATTENDED * (16 * 24 + 24 * 72 + 24 * 24 + 2 * 24 * 96) + 2 * ATTENDED**2 * 24 + 24 * 10),
    Lstm: 2 * (16 * 4 * 20 * (16 + 20) + 16 * 4 * 20 * (20 + 20) + 20 * 10),
    Attention: 2 * (ATTENDED * 16 * 48 + 2 * ATTENDED**2 * 16 + 256 * 10),
    Gru: 2 * (16 * 3 * 20 * (16 + 20) + 16 * 3 * 20 * (20 + 20) + 20 * 10),
    Encoder: 2 * (16 * 16 * 64 + 2 * 16**2 * 16 + 2 * 16 * 16 * 24 + 256 * 10),
    Depthwise: 2 * (8 * 256 + 9 * 8 * 256 + 8 * 256 * 10),
}


@pytest.mark.parametrize(("model", "forward"), FORWARD.items(), ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_operations_are_those_of_the_layers_sizes(monkeypatch, model, forward, training):
    if not isinstance(model, str):
        monkeypatch.setattr(build, "model", lambda *_: model())
    step, train = step_of(model if isinstance(model, str) else "softmax", "precision: fp32")
    step.model.train(training)
    inputs, targets = train.inputs[:2], train.targets[:2]
    assert limits.operations(step, inputs, targets, training=False) == pytest.approx(forward, rel=1e-9)
    # Backward is twice forward, but that the first layer's input needs no gradient.
    trained = limits.operations(step, inputs, targets, training=True)
    assert 2 * forward <= trained <= 3 * forward


def test_what_a_step_holds_is_counted_in_bytes():
    step, train = step_of("softmax", "precision: fp32")
    step.take(train.inputs[:32], train.targets[:32])
    size = 4 * (256 * 10 + 10)
    assert limits.held_bytes(step) == {"parameter_bytes": size, "gradient_bytes": size, "state_bytes": size}


PEAKS = """
import torch
from bench.measure.memory import Peak
peak = Peak(torch.device("cpu"))
passing = torch.ones(2**29, dtype=torch.uint8)
del passing
assert peak.bytes() >= 0.9 * 2**29
peak.restart()
assert peak.bytes() < 0.5 * 2**29
held = torch.ones(2**28, dtype=torch.uint8)
assert 0.9 * held.numel() <= peak.bytes() < 0.5 * 2**29 + held.numel()
"""


def test_the_peak_is_what_was_held_at_most_since_it_was_restarted():
    # In a fresh process, as every timing is: one that has run for long gives out memory that it held before.
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_data_of_values_keeps_its_type():
    split = Split(torch.zeros(2, 3), torch.tensor([1, 2]))
    assert Data(split, split, split, 3).to(CPU, torch.float64).train.targets.dtype == torch.int64
