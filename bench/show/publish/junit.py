"""A gate's answer as JUnit XML: a suite for each workload, a case for each rule; inconclusive ones are skipped."""

from __future__ import annotations

import re

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from bench.conclude.verdicts import Judgement, Ruling
from bench.show.publish.tables import shown

_RESULTS = {"fail": Failure, "error": Error, "inconclusive": Skipped}
# What XML 1.0 cannot hold in any form.
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(judgement: Judgement) -> str:
    """The document, as text."""
    whole = JUnitXml(_plain(f"bench gate {judgement.suite}"))
    for title in dict.fromkeys(ruling.title for ruling in judgement.rulings):
        suite = TestSuite(_plain(title))
        suite.add_testcases([_case(ruling) for ruling in judgement.rulings if ruling.title == title])
        whole.add_testsuite(suite)
    text: bytes = whole.tostring()
    return text.decode("utf-8")


def _case(ruling: Ruling) -> TestCase:
    case = TestCase(f"batch size {ruling.batch_size}: {shown(ruling.measure)}", _plain(ruling.title), 0.0)
    if result := _RESULTS.get(ruling.verdict):
        case.result = [result(_plain(ruling.note or ruling.verdict), ruling.verdict)]
    return case


def _plain(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)
