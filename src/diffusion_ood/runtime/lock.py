"""A folder that one job at a time writes to."""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from diffusion_ood.errors import UserError
from diffusion_ood.runtime import distributed

POSIX = os.name == "posix"  # elsewhere nobody reads or writes a locked file


@contextlib.contextmanager
def locked(folder: Path, *leftovers: str) -> Iterator[None]:
    """Keep other jobs out of a folder, which is made when missing; reading stays possible.

    The first process of a job holds the lock and the others wait for it here. It ends with that
    process, however that ends. Files in it that match `leftovers`, of killed jobs, are removed.

    Raises:
        UserError: another job holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ".lock"
    with contextlib.ExitStack() as held:
        if distributed.is_main():
            try:
                held.enter_context(FileLock(file, timeout=0))
                if POSIX and not file.read_text()[:1].isdigit():  # else filelock's own note
                    script = Path(sys.argv[0]).name
                    file.write_text(f"{script} (process {os.getpid()} on {socket.gethostname()})")
            except Timeout:
                job = (POSIX and file.read_text()) or "another job"
                raise UserError(f"{folder}: {job} writes there; wait until it has ended") from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                    raise
                print(f"{folder}: cannot be locked; no other job may write there meanwhile")
            for pattern in leftovers:
                for path in folder.glob(pattern):
                    path.unlink(missing_ok=True)
        distributed.barrier()
        yield


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other jobs from a file that is read and written anew; they wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield
