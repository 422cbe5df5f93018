"""Run a command on rank 0 alone; the other ranks wait for it and end as it does. For scripts that handle a table as a
whole, which the stage scripts start on every machine:

    PYTHONPATH=$PWD torchrun --nproc_per_node 1 -m tools.run_once python export_dataset.py --help
"""

import subprocess
import sys

from utils.pipeline.ranks import Ranks


def main() -> None:
    ranks = Ranks()
    if ranks.all_ended():
        code = subprocess.run(sys.argv[1:]).returncode
        if code:
            sys.exit(code)
        ranks.release()


if __name__ == "__main__":
    main()
