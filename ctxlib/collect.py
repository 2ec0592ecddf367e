"""Find the variables of a loaded context file and give each its full name, title and tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from ctxlib.arguments import Argument
from ctxlib.column_names import is_name, is_taken
from ctxlib.declared import Declared, declare
from ctxlib.errors import Problem, nearest
from ctxlib.group import declares_name, given_name, is_group, made_at, members, origin, properties
from ctxlib.group_checks import class_problems, instance_problems, unclaimed
from ctxlib.variable import Variable, parse_tags


@dataclass(frozen=True)
class _Place:
    """Where a group stands: what the titles and tags of its members begin with."""

    title: str = ""
    tags: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Collected:
    """What a context file defines: its variables by their full names, in its order; parameters."""

    variables: dict[str, Variable]
    declared: Declared
    problems: list[Problem]


def collect(namespace: Mapping[str, object], path: str = "") -> Collected:
    """Find what a namespace defines that was made by executing the file `path`.

    Nothing that the user holds is changed but the `name` of groups that have none. Problems of a
    variable are added to the copy that is returned; those that cost none are returned beside.
    """
    collector = _Collector(namespace)
    collector.name_all()
    declared = declare(namespace, collector.groups, path)
    for name, variable in collector.variables.items():
        arguments = [collector.resolved(name, argument) for argument in variable.arguments]
        variable.arguments = tuple(a for a in arguments if a is not None)
        if declared.fields and is_group(collector.owners[name]):
            variable.fields = declared.reached_from(collector.owners[name])
    groups = [group for group, _ in collector.groups]
    owners = [owner for owner in collector.owners.values() if is_group(owner)]
    lone = dict.fromkeys(unclaimed(namespace.values(), groups, owners))
    problems = [*collector.problems, *declared.problems, *(p.in_file(path) for p in lone)]
    return Collected(_without_dropped(collector.variables), declared, problems)


class _Collector:
    def __init__(self, namespace: Mapping[str, object]) -> None:
        self.variables: dict[str, Variable] = {}
        self.problems: list[Problem] = []
        self.owners: dict[str, object] = {}
        # By identity: two groups with equal fields are two groups.
        self.names: dict[int, str] = {}
        self.groups: list[tuple[Any, str]] = []
        self.top: dict[int, tuple[Any, list[str]]] = {}
        for name, value in namespace.items():
            if not name.startswith("__") and (isinstance(value, Variable) or is_group(value)):
                self.top.setdefault(id(value), (value, []))[1].append(name)

    def name_all(self) -> None:
        """Name everything that has a name at the top level, and what is inside."""
        aliases = []
        for value, names in self.top.values():
            if is_group(value):
                given = given_name(value)
                twice = given is None and len(names) > 1
                problems = (_ambiguous("the group", names),) if twice else ()
                self._place_group(value, given or names[0], None, problems)
            elif value.instance is not None:
                aliases.append((value, names[0]))
            else:
                self._place_function(value, names)
        for value, name in aliases:
            # `energy = xgm.energy` is another word for what has a name through its group.
            if id(value) not in self.names:
                self._add(value, name, None, _Place(), value.instance)

    def _place_function(self, variable: Variable, names: list[str]) -> None:
        own = getattr(variable.func, "__name__", "")
        problems: list[Problem] = []
        if len(names) > 1 and own not in names:
            problems = [_ambiguous("the variable", names)]
        name = own if own in names else names[0]
        self._add(variable, name, None, _Place(problems=tuple(problems)), None)

    def _place_group(
        self, group: Any, name: str, parent: _Place | None, problems: tuple[Problem, ...] = ()
    ) -> None:
        self.names[id(group)] = name
        self.groups.append((group, name))
        if not declares_name(type(group)):
            vars(group)["name"] = name
        place = _place(group, name, parent, problems)
        for attribute, value in members(group).items():
            path = f"{name}.{attribute}"
            if isinstance(value, Variable):
                self._place_member(value, path, attribute, place, group)
            elif value is not None:
                self._place_nested(value, path, place)

    def _place_member(
        self, variable: Variable, path: str, attribute: str, place: _Place, group: Any
    ) -> None:
        if id(variable.original) in self.top:
            return
        if variable.instance is group or (
            variable.instance is None and id(variable) not in self.names
        ):
            self._add(variable, path, attribute, place, group)
        elif variable.instance is None:
            problem = _ambiguous("the variable", [self.names[id(variable)], path])
            self.variables[self.names[id(variable)]].problems.append(problem)

    def _place_nested(self, member: Any, path: str, place: _Place) -> None:
        group = self.linked(member)
        name = given_name(group)
        if group is not member:
            # Its owner's functions see the copy: parameters in its fields are the first one's.
            self.groups.append((member, name or self.top[id(group)][1][0]))
        if id(group) in self.top:
            return
        if id(group) not in self.names:
            self._place_group(group, name or path, None if name else place)
        elif not name:
            problem = _ambiguous("the group", [self.names[id(group)], path])
            for known, variable in self.variables.items():
                if known.startswith(self.names[id(group)] + "."):
                    variable.problems.append(problem)

    def _add(
        self, variable: Variable, name: str, attribute: str | None, place: _Place, owner: object
    ) -> None:
        if not is_name(name):
            # It would be a path in run files, and of files.
            message = f"{name!r} cannot be the name of a variable, which is left out"
            self.problems.append(Problem(message, variable.line, mend="use letters, digits and _"))
            return
        self.names[id(variable)] = name
        named = variable.clone()
        if attribute is None:
            named.rename(name)
        else:
            named.rename(name, title=place.title + (variable.own_title or attribute))
        named.tags = tuple(dict.fromkeys((*place.tags, *variable.tags)))
        named.problems += place.problems
        if variable.func is None:
            named.problems.append(
                Problem("it has no function", mend="write @Variable(...) above a function")
            )
        if is_taken(name):
            named.problems.append(
                Problem("every table has a column of this name", mend="choose another name")
            )
        if name in self.variables:
            first = self.variables.pop(name)
            message = f"{name!r} is the name of two variables, the later one is used"
            self.problems.append(Problem(message, first.line, mend="rename one of them"))
        self.variables[name] = named
        self.owners[name] = owner

    def linked(self, group: Any) -> Any:
        """Give the instance that counts: one with a name of its own rather than its copy."""
        first = origin(group)
        return first if id(first) in self.top or given_name(first) else group

    def resolved(self, name: str, argument: Argument) -> Argument | None:
        """Find what a `self#` means; None when it means nothing, which is a problem then."""
        if argument.kind != "self":
            return argument
        owner = self.owners[name]
        found: tuple[str, ...] | Problem | None
        if owner is None:
            found = Problem("self# is for the variables of a group", mend="use var#")
        elif argument.is_glob:
            paths = self._paths(owner)
            matches = [paths[p] for p in paths if fnmatchcase(p, argument.target)]
            matches = list(dict.fromkeys(match for match in matches if match != name))
            found = tuple(matches) or self._nothing_matches(owner, argument.target)
        else:
            found = self._follow(owner, argument.target)
        if isinstance(found, Problem):
            message = f"argument {argument.name!r}: 'self#{argument.target}': {found.message}"
            problem = replace(found, message=message, at=argument.name)
            self.variables[name].problems.append(problem)
            return None
        if found is None:
            return replace(argument, kind="missing")
        return replace(argument, names=found)

    def _nothing_matches(self, owner: Any, pattern: str) -> Problem | None:
        """None where the pattern asks for what an optional member has, and that is None."""
        value: Any = owner
        for part in pattern.split("."):
            inside = members(self.linked(value)) if is_group(value) else {}
            if part not in inside:
                break
            value = inside[part]
            if value is None:
                return None
        return Problem("nothing in this group matches", mend="see the names with read-context")

    def _follow(self, owner: Any, target: str) -> tuple[str, ...] | Problem | None:
        value: Any = owner
        for part in target.split("."):
            inside = members(self.linked(value)) if is_group(value) else {}
            if part not in inside:
                mend = nearest(target, self._paths(owner)) or "see the names with read-context"
                return Problem("there is no such variable in this group", mend=mend)
            value = inside[part]
            if value is None:
                return None
        if is_group(value):
            return Problem("that is a group", mend="add a dot and the name of one of its variables")
        name = self._name_of(value)
        if name is None:
            return Problem(
                "it belongs to a group without a name", mend="assign that group to a name"
            )
        return (name,)

    def _name_of(self, variable: Variable) -> str | None:
        original = id(variable.original)
        return self.names.get(original if original in self.top else id(variable))

    def _paths(self, owner: Any, seen: tuple[int, ...] = ()) -> dict[str, str]:
        """Give the full names of all variables in a group by their paths in it."""
        paths: dict[str, str] = {}
        owner = self.linked(owner)
        if id(owner) in seen:
            return paths
        for attribute, value in members(owner).items():
            if isinstance(value, Variable):
                name = self._name_of(value)
                paths |= {attribute: name} if name else {}
            elif value is not None:
                inner = self._paths(value, (*seen, id(owner)))
                paths |= {f"{attribute}.{path}": name for path, name in inner.items()}
        return paths


def _ambiguous(what: str, names: list[str]) -> Problem:
    words = " and ".join(repr(name) for name in names)
    return Problem(f"{what} has two names, {words}", mend="assign it to one name at the top level")


def _place(group: Any, name: str, parent: _Place | None, problems: tuple[Problem, ...]) -> _Place:
    """Work out what a group adds to the names, titles and tags of its members."""
    wrong = [*problems, *class_problems(type(group)), *instance_problems(group)]
    defaults = properties(group)
    source, line = made_at(group)
    parts: dict[str, str] = {"title": name.rpartition(".")[2], "sep": "/"}
    for part in parts:
        for value in (getattr(defaults, part), vars(group).get(part)):
            if isinstance(value, str):
                parts[part] = value
            elif value is not None:
                message = f"the group's {part}={value!r} is not possible"
                wrong.append(Problem(message, line, mend="give a text", source=source))
    own = vars(group).get("tags")
    tags, problem = parse_tags(defaults.tags if own is None else own)
    if problem is not None:
        message = f"the group's {problem.message}"
        wrong.append(replace(problem, message=message, line=line, source=source))
    above = parent or _Place()
    title = above.title + (parts["title"] + parts["sep"] if parts["title"] else "")
    return _Place(title, tuple(dict.fromkeys((*above.tags, *tags))), (*above.problems, *wrong))


def _without_dropped(variables: dict[str, Variable]) -> dict[str, Variable]:
    """Leave out what needs a member that is None; an argument with a default uses that."""
    dropped: set[str] = set()
    while True:
        more = set()
        for name in variables.keys() - dropped:
            variable = variables[name]
            arguments = tuple(_unless_dropped(a, dropped) for a in variable.arguments)
            variable.arguments = arguments
            if any(a.kind == "missing" and a.required for a in arguments):
                more.add(name)
        if not more:
            return {name: v for name, v in variables.items() if name not in dropped}
        dropped |= more


def _unless_dropped(argument: Argument, dropped: set[str]) -> Argument:
    if argument.kind == "var" and not argument.is_glob:
        return replace(argument, kind="missing") if argument.target in dropped else argument
    if argument.kind == "self":
        names = tuple(name for name in argument.names if name not in dropped)
        return replace(argument, names=names) if names else replace(argument, kind="missing")
    return argument
