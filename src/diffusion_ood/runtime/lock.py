"""A folder that one job at a time writes to."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from diffusion_ood.errors import UserError
from diffusion_ood.runtime import distributed

if sys.platform != "win32":
    import fcntl

NAME = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextlib.contextmanager
def locked(folder: Path, leftovers: str) -> Iterator[None]:
    """Keep other jobs out of a folder, which is made when missing; reading stays possible.

    The first process of a job holds the lock and the others wait for it here. It is a lock of the
    operating system's on `folder/.lock`, which ends with the process that holds it, however that
    ends. It is POSIX's kind, which forked workers do not inherit and which NFS knows.

    Args:
        folder: what only one job may write to.
        leftovers: pattern of the temporary files that killed jobs leave in it; they are removed.

    Raises:
        UserError: another job holds it.
    """
    held = _take(folder) if distributed.is_main() else None
    if held is not None:
        for path in folder.glob(leftovers):
            path.unlink(missing_ok=True)
    distributed.barrier()
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


def _take(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    if sys.platform != "win32":
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                print(f"{folder}: cannot be locked; no other job may write there meanwhile")
                return descriptor
            holder = os.read(descriptor, 1000).decode(errors="replace").strip()
            os.close(descriptor)
            raise UserError(
                f"{folder}: {holder or 'another process'} is at work there; wait until it has "
                "ended, or use another `model_name`"
            ) from None
    script = Path(sys.argv[0]).name
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{script} (process {os.getpid()} on {socket.gethostname()})\n".encode())
    return descriptor
