"""What test processes run: `python -m tests.helpers.forkable`, or as a fork."""

from __future__ import annotations

import json
import os
import select
import sys

from app.forkserver import PARENT


def main() -> int:
    """`say`: tells what it was given. `end CODE`. `live`: until its parent is gone."""
    match sys.argv[1:]:
        case ["say", *rest]:
            about = {"rest": rest, "environment": dict(os.environ), "leader": os.getsid(0) == os.getpid()}
            sys.stderr.write(json.dumps(about) + "\n")
            return 0
        case ["end", code]:
            return int(code)
        case _:
            while os.getppid() == int(os.environ[PARENT]):
                select.select([], [], [], 0.05)
            return 0


if __name__ == "__main__":
    sys.exit(main())
