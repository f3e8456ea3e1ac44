"""A torchvision that does not import must not take transformers down with it."""

from __future__ import annotations

import importlib
import importlib.util
import sys


def hide_broken_torchvision() -> bool:
    """Makes an installed torchvision that fails on import look absent. Call it before transformers models are imported.

    transformers only asks whether torchvision is installed, then imports it with nearly everything it has; builds for
    another torch fail there (`operator torchvision::nms does not exist`). `None` in `sys.modules` is Python's own way
    to say that a module is absent. Returns whether torchvision is usable.
    """
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError):
        pass
    else:
        return True
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    sys.modules["torchvision"] = None  # pyright: ignore[reportArgumentType] - documented: blocks the import
    from transformers.utils import import_utils

    import_utils.is_torchvision_available.cache_clear()
    import_utils.is_torchvision_v2_available.cache_clear()
    return False
