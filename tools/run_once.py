"""Run a command on rank 0 only; the other ranks wait and exit with its code. For scripts that process a whole
table, which the stage scripts start on every machine:

    PYTHONPATH=$PWD torchrun --nproc_per_node 1 -m tools.run_once python export_dataset.py --help
"""

import signal
import subprocess
import sys

from utils.workers.ranks import Ranks


def main() -> None:
    if sys.argv[1:] in ([], ["-h"], ["--help"]):
        print(__doc__)
        return
    ranks = Ranks()
    if ranks.all_ended():
        child: subprocess.Popen | None = None
        is_asked = False  # to end, maybe before `child` is known: it is running then

        def pass_on(*_) -> None:
            nonlocal is_asked
            is_asked = True
            if child is not None:
                child.terminate()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, pass_on)
        child = subprocess.Popen(sys.argv[1:])
        if is_asked:
            child.terminate()
        code = child.wait()
        if code:
            sys.exit(code if code > 0 else 128 - code)
        ranks.release()


if __name__ == "__main__":
    main()
