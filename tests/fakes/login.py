"""A credential plugin: `python login.py DIRECTORY`, told what to do by files there.

It writes how it was called into DIRECTORY/calls, a JSON object per line, then prints
DIRECTORY/answer and ends with the code in DIRECTORY/code. Before that it waits until
there is no DIRECTORY/gate.
"""

import json
import os
import sys
import time
from pathlib import Path


def main() -> int:
    """Be asked once."""
    directory = Path(sys.argv[1])
    call = {
        "argv": sys.argv[2:],
        "env": dict(os.environ),
        "stdin": "terminal" if os.isatty(0) else sys.stdin.read(),
        "session": os.getsid(0),
    }
    with (directory / "calls").open("a") as calls:
        calls.write(json.dumps(call) + "\n")
    while (directory / "gate").exists():
        time.sleep(0.005)
    sys.stderr.write("hello from the plugin\n")
    sys.stdout.write((directory / "answer").read_text())
    code = directory / "code"
    return int(code.read_text()) if code.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
