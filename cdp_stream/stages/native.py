"""The door to the compiled core (`native/`, in Rust), where it could be built; None elsewhere.

The rooms in Python are the reference: what the core does equals them byte for byte, or is left to them (docs/adr/0015).
"""

from __future__ import annotations

from types import ModuleType
from typing import Final

INTERFACE: Final = 6
"""Goes up with every change to what the compiled core is given or gives."""


def _built() -> ModuleType | None:
    try:
        from cdp_stream.stages import _native
    except ImportError:
        return None
    # A module that was built from older sources, and not again since, is as good as none.
    return _native if getattr(_native, "INTERFACE", 0) == INTERFACE else None


NATIVE: Final = _built()
