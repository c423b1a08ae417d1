"""A gate's answer as one JSON document: every number, with the raw values behind it."""

from __future__ import annotations

import json
from typing import Any

from bench.conclude.sides import Side
from bench.conclude.verdicts import VERDICTS, Judgement
from bench.show.publish.tables import ruling_record


def document(judgement: Judgement) -> str:
    """{"suite", "verdict", "exit_code", "alpha", "counts", "base", "candidate", "notes", "rulings": [..]}."""
    whole = {
        "suite": judgement.suite,
        "verdict": judgement.verdict,
        "exit_code": judgement.exit_code,
        "alpha": judgement.alpha,
        "counts": {verdict: judgement.count(verdict) for verdict in VERDICTS},
        "base": _side(judgement.base),
        "candidate": _side(judgement.candidate),
        "notes": judgement.notes,
        "rulings": [ruling_record(ruling) for ruling in judgement.rulings],
    }
    return json.dumps(whole, indent=2, allow_nan=False)


def _side(side: Side) -> dict[str, Any]:
    studies = {f"{workload} {size}": sample.study for (workload, size), sample in side.samples.items()}
    return {"name": side.name, "environments": side.environments, "studies": studies}
