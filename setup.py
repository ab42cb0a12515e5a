"""What pyproject.toml cannot say: the compiled modules, which are left out where there is no compiler for them."""

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools_rust import Binding, RustExtension, Strip

setup(
    # Optional, both of them: without them the same walk is done in Python, and slower.
    ext_modules=cythonize(
        [Extension("cdp_stream.stages._known", ["cdp_stream/stages/_known.pyx"], optional=True)],
        build_dir="build/cython",
        language_level=3,
    ),
    rust_extensions=[
        RustExtension(
            "cdp_stream.stages._native",
            path="native/Cargo.toml",
            binding=Binding.PyO3,
            args=["--locked"],
            debug=False,
            strip=Strip.Debug,
            optional=True,
        )
    ],
)
