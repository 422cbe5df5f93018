"""Print which rules an existing dataset keeps in stage 2: `now`; `0.3`, with crop boxes of version 0.3; or `whole`, without crop boxes.

python -m utils.pipeline.existing datasets/panda_70m
"""

import sys
from pathlib import Path

from utils.pipeline.ancestry import settings_of
from utils.storage import is_url


def rules_of(folder: str) -> str:
    def settings(name: str) -> dict:
        return settings_of(f"{folder.rstrip('/')}/{name}" if is_url(folder) else Path(folder, name))

    if crop := settings("crop_box.jsonl"):
        return "now" if "rule" in crop else "0.3"
    return "whole" if settings("text_score.jsonl") else "now"


if __name__ == "__main__":
    print(rules_of(sys.argv[1]))
