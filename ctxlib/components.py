"""Order a graph, and find the cycles that stand in the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping


def components(edges: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Give the strongly connected components, what a component points to before it (Tarjan).

    `edges` has every node as a key. A component of several nodes is one or more cycles. Nodes that
    do not point to one another keep the order of `edges` as far as possible.
    """
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_nodes: list[str] = []
    is_open: set[str] = set()
    found: list[list[str]] = []
    for root in edges:
        if root in index:
            continue
        # Walked with a stack of our own: a long chain would exceed Python's recursion limit.
        path: list[tuple[str, Iterator[str]]] = []
        enter: str | None = root
        while enter is not None or path:
            if enter is not None:
                index[enter] = lowest[enter] = len(index)
                open_nodes.append(enter)
                is_open.add(enter)
                path.append((enter, iter(edges[enter])))
            node, rest = path[-1]
            enter = None
            for target in rest:
                if target not in index:
                    enter = target
                    break
                if target in is_open:
                    lowest[node] = min(lowest[node], index[target])
            if enter is not None:
                continue
            path.pop()
            if path:
                above = path[-1][0]
                lowest[above] = min(lowest[above], lowest[node])
            if lowest[node] == index[node]:
                component: list[str] = []
                while not component or component[-1] != node:
                    component.append(open_nodes.pop())
                is_open.difference_update(component)
                found.append(component)
    return found


def cycle_through(node: str, edges: Mapping[str, Collection[str]]) -> list[str] | None:
    """Give the shortest way from `node` back to itself, both ends included, or None."""
    came_from: dict[str, str] = {}
    waiting = deque([node])
    while waiting:
        here = waiting.popleft()
        for target in edges[here]:
            if target == node:
                path = [node]
                while here != node:
                    path.append(here)
                    here = came_from[here]
                return [node, *reversed(path)]
            if target not in came_from:
                came_from[target] = here
                waiting.append(target)
    return None
