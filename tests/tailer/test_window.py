"""How much may be under way, how much of that aside, and what may be asked beside the usual."""

from hypothesis import given
from hypothesis import strategies as st

from tailer.asked import DOUBT_MAX_S, DOUBT_S, SILENT_S, Usual
from tailer.window import ASIDE_MAX, BYTES, PACKETS, SPARE_MAX, Spare, Window


def test_what_is_set_aside_makes_room_until_too_much_is() -> None:
    window = Window()
    for number in range(PACKETS):
        assert window.is_open
        window.enter((1, number), 10)
    assert not window.is_open
    assert window.set_aside((1, 0))
    assert window.is_open
    assert not window.set_aside((1, 0)), "it is aside already"
    assert not window.set_aside((1, 99)), "it is not of here: a third copy"
    window.take_back((1, 0))
    assert not window.is_open
    for number in range(PACKETS, PACKETS + ASIDE_MAX):
        window.enter((1, number), 10)
        assert window.set_aside((1, number))
    assert not window.set_aside((1, 1)), "aside has a limit"
    assert not window.is_open


def test_bytes_are_bounded_wherever_they_are_and_one_packet_always_fits() -> None:
    window = Window()
    assert window.fits(2 * BYTES)
    window.enter((1, 0), BYTES - 5)
    window.set_aside((1, 0))
    assert window.fits(5)
    assert not window.fits(6)


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "aside", "back"]), st.integers(0, 200)), max_size=300))
def test_counts_are_those_of_what_is_in_it(steps: list[tuple[str, int]]) -> None:
    window, inside, aside = Window(), set[int](), set[int]()
    for step, number in steps:
        slot = 1, number
        if step == "enter" and number not in inside:
            window.enter(slot, number)
            inside.add(number)
        elif step == "leave" and number in inside:
            window.leave(slot)
            inside.discard(number)
            aside.discard(number)
        elif step == "aside":
            if window.set_aside(slot):
                aside.add(number)
        elif step == "back":
            window.take_back(slot)
            aside.discard(number)
        assert aside <= inside
        assert len(aside) <= ASIDE_MAX
        assert window.bytes == sum(inside)
        assert window.moving == len(inside) - len(aside)
        assert (slot in window) == (number in inside)


def test_further_copies_are_a_window_and_later_one_for_ten() -> None:
    spare = Spare()
    for _ in range(PACKETS):
        assert spare.is_enough(answers=False)
        spare.spend()
    assert not spare.is_enough(answers=False)
    for _ in range(ASIDE_MAX):
        assert spare.is_enough(answers=True)
        spare.spend()
    assert not spare.is_enough(answers=True), "borrowing has an end"
    for _ in range(11 + 10 * ASIDE_MAX):
        spare.earn()
    assert spare.is_enough(answers=False)
    for _ in range(1000):
        spare.earn()
    assert spare.left == SPARE_MAX


def test_doubt_follows_what_is_usual_within_bounds() -> None:
    usual = Usual()
    assert usual.doubt_s == DOUBT_S
    for _ in range(200):
        usual.note(0.08)
    assert DOUBT_S < usual.doubt_s < DOUBT_MAX_S
    assert usual.is_fast
    for _ in range(200):
        usual.note(3.0)
    assert usual.doubt_s == DOUBT_MAX_S < SILENT_S
    assert not usual.is_fast
