"""The kernel: blocks of raw log bytes -> columns -> bytes. Compiled where there was a compiler, else its twin.

`Stream` is what is learnt of one source, `Builder` the open packet that lines of several streams go to, `encode` the
step between them; `Rows` is the way back. Both kernels give identical results; `COMPILED` says which one this is, and
BUCK_PURE=1 in the environment forces the twin.
"""

import os
from typing import TYPE_CHECKING

COMPILED = False
if TYPE_CHECKING:
    from protocol._kernel import Builder, Rows, Stream, arranged, encode, gather_text
else:
    try:
        if os.environ.get("BUCK_PURE", "") not in ("", "0"):
            raise ImportError("BUCK_PURE asks for the twin")
        from protocol._kernel import Builder, Rows, Stream, arranged, encode, gather_text

        COMPILED = True
    except ImportError:
        from protocol._kernel_py import Builder, Stream, encode
        from protocol._kernel_py_out import Rows, arranged, gather_text

DONE, NEED, FULL = 0, 1, 2  # why `encode` stopped

__all__ = ["COMPILED", "DONE", "FULL", "NEED", "Builder", "Rows", "Stream", "arranged", "encode", "gather_text"]
