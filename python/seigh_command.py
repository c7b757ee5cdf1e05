"""The console script: sets how long libgomp's threads spin before torch loads it (apps/seigh/openmp_waiting.cc), then runs the command."""

import os


def main():
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from seigh._command import main

    main()
