"""The command seigh, in the process of Python: the same as the program without Python, and recipes with model.python."""

import os
import signal
import sys


def main():
    from seigh import _core
    from seigh._run import make_problem

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    sys.stdout.flush()
    try:
        code = _core.command(["seigh", *sys.argv[1:]], make_problem)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # of the user's own code: all of it is of use
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without the handlers that libraries left for the end, as the program does
