"""`rampipe` with the shapes and types of its annotations checked by beartype at run time."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from types import ModuleType

from jaxtyping import _import_hook, install_import_hook


class Loader(_import_hook._JaxtypingLoader):
    """While jaxtyping's own runs a module, Python finds no compiled form of anything: torch and transformers, which the
    first module of ours imports, would be compiled again by every process, in a quarter of its start-up time.
    """

    def exec_module(self, module: ModuleType) -> None:
        exec(self.source_to_code(self.get_data(self.path), self.path), module.__dict__)


def check_imports() -> None:
    """To be called before any import of rampipe."""
    _import_hook._JaxtypingLoader = Loader
    install_import_hook("rampipe", "beartype.beartype")
