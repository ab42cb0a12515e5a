"""What pyproject.toml cannot say: one compiled module, which is left out where there is no C compiler."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        # Optional: without it the same walk is done in Python, and slower.
        [Extension("cdp_stream.stages._known", ["cdp_stream/stages/_known.pyx"], optional=True)],
        build_dir="build/cython",
        language_level=3,
    )
)
