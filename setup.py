"""What pyproject.toml cannot say: the compiled core, which is left out where there is no compiler for it."""

from setuptools import setup
from setuptools_rust import Binding, RustExtension, Strip

setup(
    # Optional: without it the same walk is done in Python, and slower.
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
