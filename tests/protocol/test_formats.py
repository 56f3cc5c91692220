"""Formats as values: what is refused, and that their text is as good as they are."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ColumnsError
from protocol.formats import (
    ANDROID,
    BSD,
    CLF,
    CTIME,
    EPOCH,
    FIELD_SIZES,
    ISO,
    MINUTE_SIZES,
    NAMES,
    PLAIN,
    SHAPES,
    SLASH,
    Format,
    zone_offset,
)
from tests.protocol.gathering import Twin, gather, nasty

GOOD = [
    Format(ISO, 0, 1, 84, 46, 6, 0, 3600, b"+0100"),
    Format(ISO, 2, 1, 84, 46, 3, 0, 0, b"Z"),
    Format(ISO, 0, 0, 32, 44, 3, 0, 0, b"", b"[task "),
    Format(ISO, 0, 0, 84, 46, 8, 1, 0, b"Z"),
    Format(BSD, 1, 1, 32),
    Format(BSD, 0, 1, 48),
    Format(CLF, offset=-25200, zone=b" -0700", anchor=b"["),
    Format(EPOCH, digits=3),
    Format(EPOCH, mark=46, digits=8, extra=10),
    Format(EPOCH, digits=8, extra=1, anchor=b'"ts":'),
    Format(SLASH),
    Format(CTIME, sep=32, mark=46, digits=6, zone=b" 2023", anchor=b"["),
    Format(CTIME, sep=32),
    Format(PLAIN),
    Format(ANDROID, mark=46, digits=3),
]


@pytest.mark.parametrize("form", GOOD)
def test_a_good_format_passes_and_its_text_reads_back(form: Format) -> None:
    assert form.check() is form
    text = form.to_text()
    assert text.isascii()
    assert text.isprintable()
    assert Format.from_text(text) == form


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"kind": 0}, "kind"),
        ({"kind": 9}, "kind"),
        ({"head": 3}, "head"),
        ({"head": 1, "anchor": b"x", "tail": 0}, "head"),
        ({"tail": 0}, "tail"),
        ({"tail": 1, "anchor": b"["}, "tail"),
        ({"sep": 95, "tail": 0}, "separator"),
        ({"mark": 58}, "fraction"),
        ({"digits": 9}, "fraction"),
        ({"digits": 0}, "fraction"),
        ({"extra": 1, "tail": 0}, "fraction"),
        ({"digits": 8, "extra": 11, "tail": 0}, "fraction"),
        ({"offset": 3601}, "zone"),
        ({"zone": b"+2400"}, "zone"),
        ({"zone": b"+0160"}, "zone"),
        ({"zone": b"CET"}, "zone"),
        ({"zone": b" +01", "tail": 0}, "zone"),
        ({"anchor": b"x" * 41, "tail": 0}, "anchor"),
        ({"anchor": b"x\n", "tail": 0}, "anchor"),
        ({"kind": EPOCH, "sep": 0, "tail": 0}, "zone"),
        ({"kind": CTIME, "sep": 32, "tail": 0, "zone": b" 2262", "offset": 0}, "zone"),
        ({"kind": ANDROID, "sep": 0, "tail": 0, "digits": 2, "zone": b"", "offset": 0}, "fraction"),
        ({"kind": PLAIN, "sep": 0, "tail": 0, "anchor": b"x"}, "anchor"),
    ],
)
def test_a_format_that_no_kernel_writes_is_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises(ColumnsError, match=what):
        GOOD[0]._replace(**change).check()  # type: ignore[arg-type]  # wrong values are the point


@given(st.integers(0, 2**32))
def test_every_format_that_is_learnt_passes_and_reads_back(seed: int) -> None:
    packets, _ = gather(Twin, [nasty(random.Random(seed), 30)])
    for packet in packets:
        for form in packet.formats:
            assert Format.from_text(form.check().to_text()) == form


@pytest.mark.parametrize("form", GOOD)
@given(seed=st.integers(0, 2**32))
def test_a_changed_text_is_refused_or_another_good_format(form: Format, seed: int) -> None:
    r = random.Random(seed)
    text = list(form.to_text())
    text[r.randrange(len(text))] = chr(r.choice((32, 37, 48, 57, 90, 103, 233, 0x660)))
    try:
        other = Format.from_text("".join(text))
    except ColumnsError:
        return
    assert Format.from_text(other.check().to_text()) == other


@pytest.mark.parametrize("text", ["", "iso", "foo" + GOOD[0].to_text()[3:], GOOD[0].to_text() + " ", "\u0660"])
def test_other_text_is_no_format(text: str) -> None:
    with pytest.raises(ColumnsError):
        Format.from_text(text)


@pytest.mark.parametrize(
    ("zone", "offset"),
    [(b"", 0), (b"Z", 0), (b"+01", 3600), (b"-0330", -12600), (b" +05:45", 20700), (b"+23:59", 86340), (b"+1", None)],
)
def test_a_zone_says_its_offset(zone: bytes, offset: int | None) -> None:
    assert zone_offset(ISO, zone) == offset


def test_the_tables_fit_each_other() -> None:
    assert set(NAMES) == set(SHAPES) == set(MINUTE_SIZES)
    assert MINUTE_SIZES == {1: 17, 2: 13, 3: 18, 4: 0, 5: 17, 6: 17, 7: 11, 8: 12}
    letters = set(FIELD_SIZES)
    assert letters == {chr(c) for shape in SHAPES.values() for c in shape if chr(c).isalpha()}
    assert max(len(form.to_text()) for form in GOOD) < 255
