"""Faults are injected into what the other tests run: their suites, their models, their ways to start bench."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))
