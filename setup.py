"""The one thing pyproject.toml can't say: the compiled kernel, which is optional (its twin in Python does the same)."""

from glob import glob

from setuptools import Extension, setup

PARTS = glob("protocol/_kernel*.pxi")
FLAGS = ["-O3", "-fno-strict-aliasing"]
setup(
    ext_modules=[
        Extension("protocol._kernel", ["protocol/_kernel.pyx"], depends=PARTS, extra_compile_args=FLAGS, optional=True)
    ]
)
