"""A process that has imported everything, and forks a copy of itself for every command.

Importing torch and MONAI takes longer than what the tests do with them. Each line of its input is
a request as JSON: `{"argv": […], "env": {…}, "log": path}` starts a command of `commands.py` in a
session of its own and answers its process number; a number asks for the state of that process,
and is answered by the exit status of `subprocess`, or by null while it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from typing import Any

import commands


def start(argv: list[str], env: dict[str, str], log: str) -> int:
    """Start a command; its process number."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    os.environ.update(env)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, descriptor)
    sys.argv = ["commands.py", *argv]
    code = 0
    try:
        commands.main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(ValueError, OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def state(pid: int) -> int | None:
    """The exit status of a process that has ended."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def main() -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        request: Any = json.loads(line)
        answer = state(request) if isinstance(request, int) else start(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
