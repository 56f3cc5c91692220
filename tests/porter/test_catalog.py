"""Names that say what an object is."""

from __future__ import annotations

from porter.catalog import PartName, everything, of_hour, parse, parts
from porter.objects import MemoryObjects

HOUR = 1_699_999_200  # 2023-11-14 22:00


def test_names_say_hour_kind_and_number_and_others_are_not_ours() -> None:
    for name in (PartName("prod", HOUR, "p", 0), PartName("prod", HOUR, "v", 123), PartName("a", 0, "p", 99)):
        assert parse(str(name)) == name
    assert str(PartName("prod", HOUR, "v", 0)) == "prod/date=2023-11-14/22.v00.json"
    for text in (
        "prod/date=2023-11-14/22.p0.parquet",
        "prod/date=2023-13-14/22.p00.parquet",
        "readme",
        "a/b/c",
        "e/date=2023-11-14/22.p00.json",
    ):
        assert parse(text) is None


def test_parts_are_listed_by_hour_and_number_even_beyond_a_hundred() -> None:
    objects = MemoryObjects()
    wanted = [PartName("e", HOUR, "p", 2), PartName("e", HOUR, "p", 100), PartName("e", HOUR + 3600, "p", 0)]
    for name in [*reversed(wanted), PartName("e", HOUR, "v", 0), PartName("f", HOUR, "p", 0)]:
        objects.held[str(name)] = b""
    objects.held["e/date=2023-11-14/notes.txt"] = b""
    assert parts(objects, "e") == wanted
    assert parts(objects, "e", HOUR + 3600) == wanted[2:]
    assert parts(objects, "e", 0, HOUR + 3600) == wanted[:2]
    assert of_hour(objects, "e", HOUR) == wanted[:2]
    assert everything(objects, "e") == [*wanted[:2], PartName("e", HOUR, "v", 0), wanted[2]]
    assert [name.kind for name in of_hour(objects, "e", HOUR, "v")] == ["v"]
