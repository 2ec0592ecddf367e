"""What a context file imports (`from damnit_ctx import Variable, Group, Cell, Skip`) and runs in.

Works alone in any scientific Python environment. Importing it loads none of the libraries that
results are made of, so that commands and fork servers start at once.
"""

from ctxlib.cell import Cell
from ctxlib.errors import Skip
from ctxlib.group import Group, group
from ctxlib.parameter import Parameter
from ctxlib.reporting import progress
from ctxlib.variable import Variable

__all__ = ["Cell", "Group", "Parameter", "Skip", "Variable", "group", "progress"]
