"""What a process has one of, and a test changes: a worker gets its own, where it can."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def keep_to_itself() -> None:
    """Give this interpreter, and the threads that it starts, a working directory and a
    umask of its own, and environment variables.

    Before anything imports subprocess.
    """
    try:
        os.unshare(os.CLONE_FS)
    except OSError:  # some containers do not allow it: then there is one for all
        pass
    _keep_environment()


def _keep_environment() -> None:
    """os.environ is this interpreter's, and processes that are started get that; the
    process's own environment is not touched, which others read at any time."""
    import _posixsubprocess

    fork_exec: Any = _posixsubprocess.fork_exec

    # (args, executables, close_fds, pass_fds, cwd, env, ...)
    def fork_exec_here(*args: Any) -> int:
        env = [b"%s=%s" % pair for pair in os.environb.items()]
        pid = fork_exec(*args[:5], env if args[5] is None else args[5], *args[6:])
        return int(pid)

    _posixsubprocess.fork_exec = fork_exec_here
    os.posix_spawn = _with_environment(os.posix_spawn)
    os.posix_spawnp = _with_environment(os.posix_spawnp)
    os.putenv = os.unsetenv = _ignore


def _with_environment(spawn: Callable[..., int]) -> Callable[..., int]:
    def spawn_here(path: Any, argv: Any, env: Any, /, **how: Any) -> int:
        return spawn(path, argv, os.environ if env is None else env, **how)

    return spawn_here


def _ignore(*args: object) -> None:
    pass
