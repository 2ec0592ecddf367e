"""What a context file imports (`from damnit_ctx import Variable, Group, Cell, Skip`) and runs in.

Works alone in any scientific Python environment. Importing it loads none of the libraries that
results are made of, so that commands and fork servers start at once; what reads and writes
databases from outside is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

from ctxlib.cell import Cell
from ctxlib.errors import GroupError, Skip
from ctxlib.group import Group, group
from ctxlib.parameter import Parameter
from ctxlib.reporting import progress
from ctxlib.variable import RunData, Variable

if TYPE_CHECKING:
    from ctxlib.pipeline import Pipeline
    from ctxlib.submission import submit as submit
    from ctxlib.table import RunTable as RunTable

# Without what reads and writes databases: `import *` in a context file would load their libraries.
__all__ = [
    "Cell",
    "Group",
    "GroupError",
    "Parameter",
    "Pipeline",
    "RunData",
    "Skip",
    "Variable",
    "group",
    "progress",
]

_LOADED_LATER = {
    "Pipeline": "ctxlib.pipeline",
    "RunTable": "ctxlib.table",
    "submit": "ctxlib.submission",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LOADED_LATER[name]), name)
