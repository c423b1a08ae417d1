"""Checks every suite in a folder, each as `bench check` does; prints [[{file, code, seconds, err}], peak bytes]."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from bench.cli import main


def checked(path):
    sys.argv = ["bench", "check", str(path)]
    out, err = StringIO(), StringIO()
    began = time.process_time()  # of this process alone, on however busy a machine
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException as error:  # what a person would see as a traceback
            code, err = 70, StringIO(repr(error))
    return {"file": path.name, "code": code, "seconds": time.process_time() - began, "err": err.getvalue()[-500:]}


def peak_bytes():
    """The most this process has held since it was started; rusage would count its parent's too."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


if __name__ == "__main__":
    told = [checked(path) for path in sorted(Path(sys.argv[1]).glob("*.yaml"))]
    sys.stdout.write(json.dumps([told, peak_bytes()]))
