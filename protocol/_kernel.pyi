"""Types of the compiled kernel: they are its twin's."""

from protocol._kernel_py import Builder as Builder
from protocol._kernel_py import encode as encode
from protocol._kernel_py_out import Rows as Rows
from protocol._kernel_py_out import arranged as arranged
from protocol._kernel_py_out import gather_text as gather_text
from protocol._kernel_py_stream import Stream as Stream
