"""A gate's answer as annotations of a GitHub workflow: lines that its log turns into marks on the change."""

from bench.conclude.verdicts import VERDICTS, Judgement, Ruling
from bench.show.publish.tables import shown, title

# GitHub shows ten annotations of a kind a step: nine, and a line that says how many there were.
MOST = 9
_COMMANDS = {"fail": "error", "error": "error", "inconclusive": "warning"}


def annotations(judgement: Judgement) -> list[str]:
    """The worst rulings, a line each, and one that sums up."""
    rulings = [ruling for ruling in judgement.rulings if ruling.verdict in _COMMANDS]
    rulings.sort(key=lambda ruling: VERDICTS.index(ruling.verdict))
    lines = [_line(_COMMANDS[ruling.verdict], _heading(ruling), _text(ruling)) for ruling in rulings[:MOST]]
    return [*lines, _line(_COMMANDS.get(judgement.verdict, "notice"), "bench gate", title(judgement))]


def _heading(ruling: Ruling) -> str:
    return f"{ruling.verdict}: {ruling.title}, batch size {ruling.batch_size:,}, {shown(ruling.measure)}"


def _text(ruling: Ruling) -> str:
    ratio = f"{ruling.ratio.value:.3g} times the base" if ruling.ratio and ruling.ratio.resolved else ""
    return "; ".join(part for part in (ratio, ruling.note) if part)


def _line(command: str, heading: str, text: str) -> str:
    # A property ends at a comma or colon, and a message at the end of the line, unless they are escaped.
    escaped = _escaped(heading).replace(":", "%3A").replace(",", "%2C")
    return f"::{command} title={escaped}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
