"""Groups of variables: names, titles, fields, members and what they are computed from."""

from notes import results

from ctxlib.graph import Graph

XGM = """
@Group(title="XGM Diag", tags=["XGM"])
class XGMDiagnostics:
    device_name: str = None
    offset: float = 0.0

    @Variable(title="Pulse Energy", summary="mean")
    def pulse_energy(self, run):
        return run * 10

    @Variable(title="Corrected Energy", summary="mean")
    def corrected_energy(self, run, energy: "self#pulse_energy"):
        return energy + self.offset
"""


def titles(context):
    return {name: variable.title for name, variable in context.variables.items()}


def tags(context):
    return {name: variable.tags for name, variable in context.variables.items()}


def test_instances_prefix_names_and_titles_and_have_their_own_fields(context):
    loaded = context(
        XGM
        + """
xgm_sa2 = XGMDiagnostics(title="XGM SA2", device_name="a", offset=1.1)
xgm_hed = XGMDiagnostics("XGM HED", ["HED"], ": ", offset=0.9)
plain = XGMDiagnostics()
"""
    )
    assert not loaded.problems
    assert titles(loaded) == {
        "xgm_sa2.pulse_energy": "XGM SA2/Pulse Energy",
        "xgm_sa2.corrected_energy": "XGM SA2/Corrected Energy",
        "xgm_hed.pulse_energy": "XGM HED: Pulse Energy",
        "xgm_hed.corrected_energy": "XGM HED: Corrected Energy",
        "plain.pulse_energy": "XGM Diag/Pulse Energy",
        "plain.corrected_energy": "XGM Diag/Corrected Energy",
    }
    assert tags(loaded)["xgm_sa2.pulse_energy"] == ("XGM",)
    assert tags(loaded)["xgm_hed.pulse_energy"] == ("HED",)
    values = results(loaded)
    assert values["xgm_sa2.corrected_energy"] == 11.1
    assert values["xgm_hed.corrected_energy"] == 10.9


def test_the_default_title_is_the_name_and_the_alias_is_the_same(context):
    loaded = context("""
    from damnit_ctx import group
    @group
    class A:
        @Variable
        def v(self, run): ...
    @group()
    class B:
        @Variable(title="V")
        def v(self, run): ...
    a, b = A(), B()
    """)
    assert titles(loaded) == {"a.v": "a/v", "b.v": "b/V"}
    assert not loaded.problems


def test_dependencies_from_a_group_to_the_outside_and_back(context):
    loaded = context(
        XGM
        + """
@Variable(title="Global Offset")
def global_offset(run):
    return 42

@Group
class MyGroup:
    @Variable()
    def local_var(self, run, offset: "var#global_offset"):
        return 10 + offset

    @Variable()
    def another_var(self, run, energy: "var#xgm_hed.corrected_energy"):
        return energy * 2

instance = MyGroup("Group")
xgm_hed = XGMDiagnostics(offset=5)

@Variable
def outside(run, x: "var#instance.local_var"):
    return x
"""
    )
    values = results(loaded)
    assert not loaded.problems
    assert loaded.variables["instance.local_var"].title == "Group/local_var"
    assert values["outside"] == 52
    assert values["instance.another_var"] == 30


NESTED = (
    XGM
    + """
@Group(title="DET")
class Detector:
    name: str = "LPD"

    @Variable(title="Photon Count", tags="count")
    def n_photons(self, run):
        return (self.name, run)

@Group(title="MID Diag", tags=["MID", "Diag"])
class MIDDiagnostics:
    xgm: XGMDiagnostics = None
    agipd = Detector(title="AGIPD", name="AGIPD1M")

    @Variable(title="Photons per µJ")
    def photons_per_microjoule(self, run,
                               photons: "self#agipd.n_photons",
                               energy: "self#xgm.corrected_energy"):
        return photons, energy
"""
)


def test_nested_groups(context):
    loaded = context(
        NESTED
        + """
mid = MIDDiagnostics(xgm=XGMDiagnostics(title="XGM SA2", offset=1.5, tags=["XGM", "SA2"]))
"""
    )
    assert not loaded.problems
    assert titles(loaded) == {
        "mid.xgm.pulse_energy": "MID Diag/XGM SA2/Pulse Energy",
        "mid.xgm.corrected_energy": "MID Diag/XGM SA2/Corrected Energy",
        "mid.agipd.n_photons": "MID Diag/AGIPD/Photon Count",
        "mid.photons_per_microjoule": "MID Diag/Photons per µJ",
    }
    assert tags(loaded) == {
        "mid.xgm.pulse_energy": ("MID", "Diag", "XGM", "SA2"),
        "mid.xgm.corrected_energy": ("MID", "Diag", "XGM", "SA2"),
        "mid.agipd.n_photons": ("MID", "Diag", "count"),
        "mid.photons_per_microjoule": ("MID", "Diag"),
    }
    assert results(loaded)["mid.photons_per_microjoule"] == (("AGIPD1M", 1), 11.5)


def test_a_member_that_is_none_drops_what_needs_it(context):
    loaded = context(
        NESTED
        + """
mid = MIDDiagnostics()

@Variable
def far(run, x: "var#mid.photons_per_microjoule"): ...

@Variable
def near(run, x: "var#far" = 3):
    return x
"""
    )
    assert list(loaded.variables) == ["mid.agipd.n_photons", "near"]
    assert not Graph(loaded).problems
    assert results(loaded)["near"] == 3


def test_a_default_stands_for_a_member_that_is_none(context):
    loaded = context("""
    @Group
    class A:
        other: Variable = None
        gone = None

        @Variable
        def v(self, run, x: "self#other" = 1, y: "self#gone.deep.v" = 2):
            return x, y
    a = A()
    """)
    assert results(loaded) == {"a.v": (1, 2)}


def test_a_subclass_can_take_a_variable_out(context):
    loaded = context("""
    @Group
    class A:
        @Variable
        def v(self, run): ...
        @Variable
        def w(self, run, x: "self#v"): ...
    class B(A):
        v = None
    b = B()
    """)
    assert not loaded.variables


def test_groups_in_a_class_body_are_copied_for_each_owner(context):
    loaded = context("""
    @Group
    class Inner:
        offset: int = 1
        @Variable
        def v(self, run): return self.offset
    @Group
    class Outer:
        plain = Inner(offset=2)
        field: Inner = Inner(offset=3)
        @Variable
        def same(self, run): return self.plain is a.plain or self.field is a.field
    a, b = Outer("A"), Outer("B")
    b.plain.offset = 20
    """)
    values = results(loaded)
    assert not loaded.problems
    assert (values["a.plain.v"], values["b.plain.v"], values["b.field.v"]) == (2, 20, 3)
    assert values["b.same"] is False


def test_an_instance_with_a_name_at_the_top_level_is_linked(context):
    loaded = context("""
    count = []

    @Group(tags=["inner"])
    class Inner:
        @Variable
        def v(self, run):
            count.append(1)
            return len(count)
    shared = Inner("Shared")

    @Group(tags="outer")
    class Outer:
        inner: Inner = None
        body = shared
        @Variable
        def w(self, run, x: "self#inner.v", y: "self#body.v"): return x, y
    a = Outer("A", inner=shared)
    b = Outer("B", inner=shared)
    """)
    assert titles(loaded) == {"shared.v": "Shared/v", "a.w": "A/w", "b.w": "B/w"}
    assert tags(loaded)["shared.v"] == ("inner",)
    assert not loaded.problems
    assert results(loaded)["b.w"] == (1, 1)


def test_a_dataclass_can_become_a_group(context):
    loaded = context("""
    from dataclasses import dataclass, field
    @Group
    class Inner:
        @Variable
        def v(self, run): return self.name
    @Group
    @dataclass
    class A:
        x: int = 1
        inner: Inner = field(default_factory=Inner)
        @Variable
        def v(self, run): return self.x
    a = A("Title", x=5)
    """)
    assert not loaded.problems
    assert titles(loaded) == {"a.v": "Title/v", "a.inner.v": "Title/inner/v"}
    assert results(loaded) == {"a.v": 5, "a.inner.v": "a.inner"}


def test_groups_with_equal_fields_are_two(context):
    loaded = context("""
    @Group
    class A:
        x: int = 1
        @Variable
        def v(self, run): return self.x
    a, b = A(), A()
    assert a != b and len({a, b}) == 2
    """)
    assert list(loaded.variables) == ["a.v", "b.v"]


def test_a_name_can_be_given_when_the_instance_is_made(context):
    loaded = context("""
    @Group
    class Inner:
        @Variable
        def v(self, run): return self.name
    @Group
    class Outer:
        inner: Inner = None
        @Variable
        def w(self, run, x: "self#inner.v"): return self.name, x
    first = Outer(name="one", inner=Inner(name="in"))
    second = Outer(inner=Inner())
    """)
    assert list(loaded.variables) == ["in.v", "one.w", "second.inner.v", "second.w"]
    values = results(loaded)
    assert values["one.w"] == ("one", "in")
    assert values["second.w"] == ("second", "second.inner")


def test_fields_may_hold_variables(context):
    loaded = context("""
    @Variable
    def top(run): return 1

    @Group
    class Other:
        @Variable
        def v(self, run): return 2
    other = Other()

    @Group
    class A:
        linked: Variable = None
        foreign: Variable = None
        own: Variable = None
        body = top
        @Variable
        def sum(self, run, a: "self#linked", b: "self#foreign", c: "self#own", d: "self#body"):
            return a, b, c, d
    a = A(linked=top, foreign=other.v, own=Variable(title="Own")(lambda run: 3))
    """)
    assert not Graph(loaded).problems
    assert titles(loaded) == {
        "top": "top",
        "other.v": "other/v",
        "a.own": "a/Own",
        "a.sum": "a/sum",
    }
    assert results(loaded)["a.sum"] == (1, 2, 3, 1)


def test_another_word_for_a_groups_variable_is_no_second_variable(context):
    loaded = context(
        XGM
        + """
xgm = XGMDiagnostics()
energy = xgm.pulse_energy
alone = XGMDiagnostics().pulse_energy
"""
    )
    assert list(loaded.variables) == ["xgm.pulse_energy", "xgm.corrected_energy", "alone"]
    assert not loaded.problems


def test_an_undecorated_subclass_inherits_and_a_decorated_one_starts_anew(context):
    loaded = context("""
    @Group(title="Base", tags=["b"], sep="-")
    class Base:
        first: int = 1
        @Variable(title="Train Count")
        def n_trains(self, run): return 10 * self.first

    class Plain(Base):
        second: int = 2
        @Variable(title="Photon Count", data="proc")
        def photons(self, run, n: "self#n_trains"): return n + self.second

    @Group(tags=["Alt"])
    class Alt(Base):
        second: int
        @Variable
        def n_trains(self, run): return self.second

    plain = Plain(first=3, second=4)
    detector = Plain("Detector")
    alt = Alt(second=9)
    """)
    assert not loaded.problems
    assert titles(loaded) == {
        "plain.n_trains": "Base-Train Count",
        "plain.photons": "Base-Photon Count",
        "detector.n_trains": "Detector-Train Count",
        "detector.photons": "Detector-Photon Count",
        "alt.n_trains": "alt/n_trains",
    }
    assert tags(loaded)["plain.photons"] == ("b",)
    assert tags(loaded)["alt.n_trains"] == ("Alt",)
    values = results(loaded)
    assert (values["plain.photons"], values["alt.n_trains"]) == (34, 9)


def test_two_bases_a_hook_and_what_follows_from_fields(context):
    loaded = context("""
    seen = []

    @Group
    class A:
        x: int = 1
        def __init_subclass__(cls, **kwargs):
            super().__init_subclass__()
            seen.append((cls.__name__, kwargs))
        def __post_init__(self):
            self.twice = 2 * self.x
            self.heading = self.title
        @Variable
        def a(self, run): return self.twice, self.heading
    @Group
    class B:
        @Variable
        def b(self, run): return 1
    class C(A, B, option=3):
        pass
    c = C("See", x=4)
    assert seen == [("C", {"option": 3})]
    """)
    assert results(loaded) == {"c.b": 1, "c.a": (8, "See")}


def test_self_with_a_glob_takes_all_that_match(context):
    loaded = context(
        XGM
        + """
@Group
class Sum:
    one = XGMDiagnostics("1", offset=1)
    two = XGMDiagnostics("2", offset=2)
    @Variable
    def all(self, run, energies: "self#*.corrected_energy", every: "self#*"):
        return energies, list(every)
s = Sum()
"""
    )
    energies, every = results(loaded)["s.all"]
    assert energies == {"s.one.corrected_energy": 11, "s.two.corrected_energy": 12}
    assert sorted(every) == sorted(set(loaded.variables) - {"s.all"})


def test_a_glob_into_an_optional_member_that_is_none_drops_its_variable(context):
    loaded = context(
        XGM
        + """
@Group
class Sum:
    one: XGMDiagnostics = None
    @Variable
    def all(self, run, energies: "self#one.*"): return list(energies)
    @Variable
    def any(self, run, energies: "self#one.*" = "none"): return energies
s = Sum()
"""
    )
    assert not Graph(loaded).problems
    assert results(loaded) == {"s.any": "none"}


def test_string_annotations_of_the_future_change_nothing(context):
    loaded = context(
        NESTED + "mid = MIDDiagnostics(xgm=XGMDiagnostics(offset=2))\n",
        head="from __future__ import annotations\nfrom damnit_ctx import Group, Variable\n",
    )
    assert not Graph(loaded).problems
    assert results(loaded)["mid.photons_per_microjoule"] == (("AGIPD1M", 1), 12)


def test_a_groups_methods_can_be_called_by_hand(context):
    loaded = context(
        XGM
        + """
xgm = XGMDiagnostics(offset=3)

@Variable
def by_hand(run):
    return xgm.corrected_energy(run, energy=xgm.pulse_energy(run))
"""
    )
    assert results(loaded)["by_hand"] == 13
