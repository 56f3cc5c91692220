"""The first thing that a process does: what it imports takes half a second, in which Ctrl-C must not print a traceback.

Until trio listens to signals, and when it has ended, an interrupt ends the process as it ends any other program.

What is imported never becomes garbage, so nothing looks for some meanwhile, nor through all of it again later.
"""

import gc
import importlib
import signal

__all__ = ["start"]


def start(module: str) -> None:
    """Load the module of a command line and run its `main`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()
    command = importlib.import_module(module).main
    gc.freeze()
    gc.enable()
    command()
