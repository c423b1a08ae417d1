"""A gate's answer as Markdown for the page of a GitHub workflow, which takes at most 1 MiB a step."""

from __future__ import annotations

from dataclasses import replace

from bench.conclude.verdicts import Judgement
from bench.show.publish.tables import judgement_table

MOST_BYTES = 900_000


def summary(judgement: Judgement) -> str:
    """The verdicts as a table, the worst first; where they are too many the best are left out, and it says so."""
    table = whole = judgement_table(judgement)
    shown = len(table.rows)
    while len((text := table.render("markdown")).encode()) > MOST_BYTES:
        shown //= 2
        left_out = (
            f"{len(judgement.rulings) - shown:,} of {len(judgement.rulings):,} rows are left out for want of room."
        )
        table = replace(whole, rows=whole.rows[:shown], notes=[left_out, *whole.notes[:shown]])
    return text + "\n"
