"""docs/WIRE.md says what the code does: its tables and its diagram are drawn here, from the code's own tables.

After a change of the wire: `python -m tests.protocol.test_wire_doc` draws them anew.
"""

import re
from pathlib import Path

import pytest

from protocol import limits
from protocol.connection import ANSWERER, ASKER, PREFACE, State, Table
from protocol.conversation import ANSWERS, MAY_ASK, PARTS
from protocol.frames import HEAD
from protocol.messages import MESSAGES, REASONS, RESERVED, ROLES
from protocol.payload import SCHEMAS

DOC = Path(__file__).parents[2] / "docs" / "WIRE.md"
BLOCK = "<!-- {0} -->\n{1}\n<!-- end of {0} -->"


def messages_table() -> str:
    """Every message with its tag, its bound and its fields."""
    rows = ["| tag | message | payload at most | fields |", "| --- | --- | --- | --- |"]
    for tag, kind in sorted(MESSAGES.items()):
        fields = ", ".join(f"`{name}` {field.name}" for name, field in SCHEMAS[kind])
        rows.append(f"| {tag} | **{kind.__name__}** | {kind.size_max:,} | {fields} |")
    rows += [f"| {tag} | *reserved: {what}* | | |" for tag, what in sorted(RESERVED.items())]
    return "\n".join(rows)


def questions_table() -> str:
    """Who may ask what, and what is answered."""
    rows = [f"| question | {' | '.join(ROLES)} | answers |", f"| --- |{' --- |' * len(ROLES)} --- |"]
    for question, answers in ANSWERS.items():
        may = " | ".join("yes" if question in MAY_ASK[role] else "" for role in ROLES)
        parts = [f"{kind.__name__} *" if kind in PARTS else kind.__name__ for kind in answers]
        rows.append(f"| {question.__name__} | {may} | {', '.join(parts)} |")
    return "\n".join(rows)


def states_diagram() -> str:
    """The states of one side, as Mermaid draws them. What may be sent while open is a table of its own."""

    def arrows(table: Table) -> set[str]:
        found = set()
        for state, steps in table.items():
            for kind, following in steps.items():
                what = "a question or an answer" if state is State.OPEN else kind.__name__
                found.add(f"    {state.value} --> {following.value}: {what}")
        return found

    everybody = [arrows(table) for table in (ANSWERER, *ASKER.values())]
    assert all(each == everybody[0] for each in everybody), "the diagram is one for all roles"
    order = [state.value for state in State]
    lines = sorted(everybody[0], key=lambda line: (order.index(line.split()[0]), order.index(line.split()[2][:-1])))
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> preface", *lines, "    closed --> [*]", "```"])


def limits_table() -> str:
    """Every bound with its reason, as limits.py gives it."""
    source = Path(limits.__file__).read_text()
    rows = ["| bound | value | why |", "| --- | --- | --- |"]
    for name, reason in re.findall(r"^(\w+): Final = [^#]+  # (.+)$", source, re.MULTILINE):
        rows.append(f"| `{name}` | {getattr(limits, name):,} | {reason} |")
    return "\n".join(rows)


BLOCKS = {"messages": messages_table, "questions": questions_table, "states": states_diagram, "limits": limits_table}


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_the_document_holds_what_the_code_says(name: str) -> None:
    assert BLOCK.format(name, BLOCKS[name]()) in DOC.read_text(), f"draw it anew: {__doc__}"


def test_every_bound_has_a_reason() -> None:
    names = {name for name in vars(limits) if name.isupper()}
    assert names == set(re.findall(r"^\| `(\w+)` \|", limits_table(), re.MULTILINE))


def test_the_document_names_every_reason_and_the_first_bytes() -> None:
    text = DOC.read_text()
    assert all(f"`{reason}`" in text for reason in REASONS)
    assert " ".join(f"{byte:02x}" for byte in PREFACE) in text
    assert (HEAD.size, HEAD.format) == (5, ">IB")
    assert 'security = "none"' in text
    assert "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2b" in text


def redraw() -> None:
    """Write the blocks into the document."""
    text = DOC.read_text()
    for name, draw in BLOCKS.items():
        pattern = re.compile(re.escape(f"<!-- {name} -->") + ".*?" + re.escape(f"<!-- end of {name} -->"), re.DOTALL)
        text = pattern.sub(lambda _, name=name, draw=draw: BLOCK.format(name, draw()), text)
    DOC.write_text(text)


if __name__ == "__main__":
    redraw()
