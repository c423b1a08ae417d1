"""Images that cannot be read, and processes that read and are ended: said in a sentence, and nothing is left behind."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from test_feeds import study, write_pets

from bench import measure
from bench.contracts import Failed, Task

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

CPU = torch.device("cpu")


@pytest.mark.parametrize(("how", "part"), [("loader", "train"), ("device", "train"), ("loader", "test")])
def test_an_image_that_cannot_be_read_fails_the_study_with_its_name_and_blames_no_trial(tmp_path, how, part):
    write_pets(tmp_path)
    broken = tmp_path / "pets" / part / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    of = study(more=f"input: {how}")
    *_, last = measure.carry_out(Task(of, {}, tmp_path), CPU)
    assert isinstance(last, Failed)
    assert last.of_data
    assert last.message.startswith(f"w at batch size 6: {broken}: cannot be read as an image: ")
    assert "\n" not in last.message
    assert multiprocessing.active_children() == []
