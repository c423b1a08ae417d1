"""What a gate says: verdicts, rulings with their evidence, and exit codes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from bench.ask.plan import titled
from bench.conclude.compare import Contrast, Measure, Values
from bench.conclude.sides import Side
from bench.stats import Interval

PASSED, FAILED, INCONCLUSIVE, NOT_COMPARABLE, INCOMPLETE = 0, 1, 3, 4, 5

Verdict = Literal["fail", "error", "inconclusive", "pass", "identical"]
VERDICTS: tuple[Verdict, ...] = ("fail", "error", "inconclusive", "pass", "identical")


@dataclass(frozen=True)
class Ruling:
    """One rule applied to one study.

    limit: the ratio, the candidate's over the base's, at which the rule is broken; None for `rcp`.  p_worse, p_within:
    adjusted p-values for "worse than the limit" and for "not so bad"; None where nothing was tested, as is of `rcp` the
    second.  detectable: the ratio that would have been failed four times of five, were this rule alone broken.  needed:
    the seeds or processes a side that would settle it if all else stayed as it is, None for more than a thousand.
    note: why, in a sentence.  exit_code: what the verdict alone would have the gate exit with.  devices: on how many a
    trial trains.  by: how its seeds were compared, where they were.
    """

    workload: str
    batch_size: int
    measure: Measure
    tolerance: float | None
    base: Values
    candidate: Values
    limit: float | None = None
    verdict: Verdict = "inconclusive"
    note: str = ""
    ratio: Interval | None = None
    p_worse: float | None = None
    p_within: float | None = None
    detectable: float | None = None
    needed: int | None = None
    exit_code: int = PASSED
    devices: int = 1
    by: Contrast | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        return titled(self.workload, self.devices)


@dataclass(frozen=True)
class Judgement:
    """What a gate says of a candidate: a ruling for each rule, in the suite's order.

    notes: how it was measured, a sentence each.
    """

    suite: str
    base: Side
    candidate: Side
    alpha: float
    rulings: tuple[Ruling, ...]
    notes: tuple[str, ...] = ()

    def count(self, verdict: Verdict) -> int:
        return sum(ruling.verdict == verdict for ruling in self.rulings)

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return next(verdict for verdict in VERDICTS if self.count(verdict))

    @property
    def exit_code(self) -> int:
        """A regression before an error, and what was not measured before what cannot be compared."""
        codes = {ruling.exit_code for ruling in self.rulings}
        return next((code for code in (FAILED, INCOMPLETE, NOT_COMPARABLE, INCONCLUSIVE) if code in codes), PASSED)


def error(ruling: Ruling, exit_code: int, note: str) -> Ruling:
    """The ruling where nothing can be compared; note: why."""
    return replace(ruling, verdict="error", exit_code=exit_code, note=note)
