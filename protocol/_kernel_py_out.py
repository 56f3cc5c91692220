"""The kernel's way out in pure Python: columns become rows again, and rows the very bytes of their source.

This is the twin of `_kernel_out.pxi`: the same class, the same results, the same errors, some thirty times slower. It
is what a host without a compiler runs, and what the compiled one is tested against; where the two differ, this one is
right. Being the one that is read, it is also the one that explains.

**Rows** are a packet's (or a row group's) events side by side. `decode` reads them from a packet's body, `from_arrays`
from flat arrays; both end in the same `_measure`, which checks each row and finds out how long its line was. Nothing is
rendered before it is asked for. A body may come from a stolen key: whatever is wrong with it is a `ColumnsError`.

What a `Rows` shows, all of it read-only:

    count, raw                         rows, and the bytes of source that they are
    lines: bytes                       what is left of all lines; in it row i's text is at starts[i], text_sizes[i] long
    starts, text_sizes, raw_sizes 'I'  (starts has one more: where the text after the last would begin)
    points 'Q'  offsets 'Q'            time, and offset in the stream
    flags 'B'  stream 'H'  pid 'i'     pid -1: none          pri 'B'   255: none
    format, shn, app 'B'               indexes in formats, shn_names, app_names; 255: none. Where that table has more
                                       entries than that (from an archive only): 'H', and 65,535

Rows.decode(body, count, sizes, formats, shn, app, runs)
Rows.from_arrays(*, points, flags, format, formats, shn, shn_names, app, app_names, pid, pri, lines, line_offsets,
                 offsets, raw=b"", raw_offsets=None, stream=None)
    Arrays are any contiguous buffers, native byte order, one value a row: points u64, flags u8, format, shn and app u16
    (65,535: none; a value that the row's flags don't call for is not looked at), pid i32, pri u8, offsets i64 (-1: the
    end of the row before), stream u16 (absent: all 0). `lines` and `line_offsets` (i32, count + 1 of them) are an Arrow
    string column; where `raw`, with `raw_offsets` alike, has bytes for a row, these are the row's text instead (an
    archive has them where the text is not UTF-8).
rows.render(first=0, last=None)    the source's bytes of rows first..last, one after another
rows.render_many(rows)             those of each of these rows
rows.find(needle, ignore_case=False)
    rows whose line may contain the needle: exactly those with it in what is left of the line or in the whole line
    (without its end), so a caller need not look further unless a text that spans a hole makes a difference. All rows
    for an empty needle, and for one with CR or LF in it. ignore_case: of ASCII letters.
rows.text() -> (data, offsets 'i')     what is left of each line, as an Arrow column: no LF between them
rows.invalid_utf8() -> list of rows    whose text is not UTF-8
gather_text([(rows, first, last), …]) -> (data, offsets 'i')     `text` of rows first..last of each, in this order
arranged(data, edges, order) -> data        texts in another order; see there
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from protocol._kernel_py_rows import Table, view
from protocol.columns import (
    APP,
    APP_COLUMN,
    FORMAT,
    HOST,
    NONE,
    PID,
    PID_COLUMN,
    PID_MAX,
    POINT_MAX,
    POINTS,
    PRI,
    SHN,
    TIME,
    WIDE_NONE,
    RunLike,
    bounds,
    check_runs,
)
from protocol.errors import ColumnsError
from protocol.formats import Format
from protocol.limits import DICTIONARY_MAX, FORMATS_MAX

Buffer = bytes | bytearray | memoryview
_TEXT_MAX: Final = (1 << 31) - 1  # Arrow's offsets are i32
_WIDE_MAX: Final = WIDE_NONE  # entries of an archive's dictionary


def _differences(column: bytes) -> Iterator[int]:
    """The numbers of a column of zigzag varints, each of at most 64 bits."""
    value = shift = 0
    for byte in column:
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                raise ColumnsError("a number of more than 64 bits")
            yield value >> 1 ^ -(value & 1)
            value = shift = 0
        else:
            shift += 7
            if shift > 63:
                raise ColumnsError("a number of more than 64 bits")
    if shift:
        raise ColumnsError("a column ends before its rows")


class Rows(Table):
    """Events decoded. See the module's docstring for what it has."""

    # ------------------------------------------------------------------------------------------------ from a packet

    @classmethod
    def decode(
        cls,
        body: Buffer,
        count: int,
        sizes: Sequence[int],
        formats: Sequence[Format],
        shn: Sequence[bytes],
        app: Sequence[bytes],
        runs: Sequence[RunLike],
    ) -> "Rows":
        """The rows of a packet's body, held against all that its header says. ColumnsError if they disagree."""
        rows = cls()
        edges = bounds(len(body), count, sizes)
        checked = check_runs(runs, count)
        rows.count = count
        rows._tables(formats, FORMATS_MAX, shn, app, DICTIONARY_MAX)
        data = bytes(body)
        rows.lines = data[: edges[1]]
        rows._set_flags(data[edges[1] : edges[2]])
        rows._split()
        rows._walk([data[edges[i] : edges[i + 1]] for i in range(8)], checked)
        rows._measure()
        rows._place(checked)
        return rows

    def _split(self) -> None:
        """Where each row's text is: one LF a row, and nothing after the last."""
        lines = self.lines
        if lines.count(b"\n") != self.count or (lines and not lines.endswith(b"\n")):
            raise ColumnsError("lines: not as many as there are events")
        sizes = [len(line) for line in lines.split(b"\n")[:-1]]
        self._sizes = array("I", sizes)
        self._starts = array("I", bytes(4))
        at = 0
        for size in sizes:
            at += size + 1
            self._starts.append(at)

    def _walk(self, columns: list[bytes], runs: list[RunLike]) -> None:
        """Reads the small columns side by side, row by row."""
        names = (iter(columns[FORMAT]), iter(columns[SHN]), iter(columns[APP_COLUMN]), iter(columns[PRI]))
        numbers = (_differences(columns[POINTS]), _differences(columns[PID_COLUMN]))
        last_pids: dict[int, int] = {}
        rows: list[tuple[int, ...]] = []
        try:
            for stream, _first, _end, count, start in runs:
                self._stream.extend([stream] * count)
                self._walk_run(self._flags[len(rows) : len(rows) + count], start, names, numbers, last_pids, rows)
        except StopIteration:
            raise ColumnsError("a column ends before its rows") from None
        for column in (*names, *numbers):
            if next(column, None) is not None:
                raise ColumnsError("a column goes on after its last row")
        arrays = (self._points, self._format, self._shn, self._app, self._pid, self._pri)
        for values, into in zip(zip(*rows, strict=True), arrays, strict=bool(rows)):
            into.extend(values)

    def _walk_run(
        self,
        flags: bytes,
        point: int,
        names: tuple[Iterator[int], ...],
        numbers: tuple[Iterator[int], ...],
        last_pids: dict[int, int],
        rows: list[tuple[int, ...]],
    ) -> None:
        """Appends the rows of one run, which starts at `point`. StopIteration where a column ends early."""
        (form, shn, app, pri), (points, pids) = names, numbers
        units = self._units
        for flag in flags:
            index, host, name, pid, priority = WIDE_NONE, WIDE_NONE, WIDE_NONE, -1, NONE
            if flag & TIME:
                index = next(form)
                if index >= len(units):
                    raise ColumnsError(f"format {index} of {len(units)}")
                scale, head = units[index]
                point = (point // scale + next(points)) * scale
                if not 0 <= point <= POINT_MAX:
                    raise ColumnsError(f"a point outside of time: {point}")
                if head:
                    priority = next(pri)
                if flag & HOST:
                    host = next(shn)
                if flag & APP:
                    name = next(app)
                if flag & PID:
                    pid = last_pids.get(name, 0) + next(pids)
                    if not 0 <= pid <= PID_MAX:
                        raise ColumnsError(f"process number {pid}")
                    last_pids[name] = pid
            rows.append((point, index, host, name, pid, priority))

    def _place(self, runs: list[RunLike]) -> None:
        """Each row's offset: a run's rows lie one behind the other, and fill it."""
        row = 0
        for _stream, first, end, count, _start in runs:
            at = first
            for size in self._raws[row : row + count]:
                self._offsets.append(at)
                at += size
            if at != end:
                raise ColumnsError(f"a run of {end - first} bytes whose rows have {at - first}")
            row += count

    # ---------------------------------------------------------------------------------------------- from flat arrays

    @classmethod
    def from_arrays(
        cls,
        *,
        points: object,
        flags: object,
        format: object,
        formats: Sequence[Format],
        shn: object,
        shn_names: Sequence[bytes],
        app: object,
        app_names: Sequence[bytes],
        pid: object,
        pri: object,
        lines: object,
        line_offsets: object,
        offsets: object,
        raw: object = b"",
        raw_offsets: object = None,
        stream: object = None,
    ) -> "Rows":
        """The rows of an archive. Which buffers, of which types: see the module's docstring."""
        rows = cls()
        rows._set_flags(bytes(_array("B", flags, None)))
        rows.count = count = len(rows._flags)
        rows._tables(formats, _WIDE_MAX, shn_names, app_names, _WIDE_MAX)
        rows._points = _array("Q", points, count)
        rows._format, rows._shn, rows._app = (_array("H", column, count) for column in (format, shn, app))
        rows._pid, rows._pri = _array("i", pid, count), _array("B", pri, count)
        rows._stream = array("H", bytes(2 * count)) if stream is None else _array("H", stream, count)
        texts = _texts(lines, line_offsets, count)
        if raw_offsets is not None:
            texts = [exact or text for exact, text in zip(_texts(raw, raw_offsets, count), texts, strict=True)]
        rows._take(texts)
        rows._clean()
        rows._measure()
        rows._follow(_array("q", offsets, count))
        return rows

    def _take(self, texts: list[bytes]) -> None:
        self.lines = b"".join(texts)
        if b"\n" in self.lines or len(self.lines) > _TEXT_MAX:
            raise ColumnsError("a line feed in a line" if b"\n" in self.lines else "more than 2 GiB of lines")
        self._sizes = array("I", map(len, texts))
        self._starts = array("I", bytes(4))
        for size in self._sizes:
            self._starts.append(self._starts[-1] + size)

    def _clean(self) -> None:
        """Forgets what a row's flags don't call for, so that rows are the same wherever they come from."""
        for i, flag in enumerate(self._flags):
            if not flag & TIME:
                self._format[i] = WIDE_NONE
            if not flag & TIME or not self._shape(i, 0).form.head:
                self._pri[i] = NONE
            if not flag & HOST:
                self._shn[i] = WIDE_NONE
            if not flag & APP:
                self._app[i] = WIDE_NONE
            if not flag & PID:
                self._pid[i] = -1

    def _follow(self, offsets: "array[int]") -> None:
        """Fills the offsets that are the end of the row before."""
        end, stream = -1, -1
        for i, offset in enumerate(offsets):
            if offset == -1 and self._stream[i] == stream:
                offset = end
            if not 0 <= offset <= POINT_MAX:
                raise ColumnsError(f"row {i} has no offset")
            self._offsets.append(offset)
            end, stream = offset + self._raws[i], self._stream[i]

    def text(self) -> tuple[bytes, memoryview]:
        """What is left of each line, as an Arrow column."""
        return gather_text([(self, 0, self.count)])


def gather_text(pieces: Iterable[tuple[Rows, int, int]]) -> tuple[bytes, memoryview]:
    """`text` of rows first..last of each piece, in this order; ValueError beyond the 2 GiB of an Arrow column."""
    texts: list[bytes] = []
    for rows, first, last in pieces:
        if not 0 <= first <= last <= rows.count:
            raise IndexError(f"rows {first} to {last} of {rows.count}")
        texts += map(rows._text, range(first, last))
    data = b"".join(texts)
    if len(data) > _TEXT_MAX:
        raise ValueError("more than 2 GiB of text in one column")
    offsets, at = array("i", [0]), 0
    for text in texts:
        at += len(text)
        offsets.append(at)
    return data, view(offsets)


def arranged(data: bytes, edges: object, order: object) -> bytes:
    """The texts data[edges[i]:edges[i + 1]] for each i of `order`, one behind the other; both are 64-bit integers."""
    places, wanted = _array("q", edges, None), _array("q", order, None)
    if any(not 0 <= first <= end <= len(data) for first, end in pairwise(places)):
        raise ColumnsError("offsets of texts that step back or lead outside")
    if any(not 0 <= row < len(places) - 1 for row in wanted):
        raise IndexError(f"a text beyond {len(places) - 1}")
    return b"".join([data[places[row] : places[row + 1]] for row in wanted])


def _array(code: str, data: object, count: int | None) -> "array[int]":
    """A buffer's values, as many as there are rows."""
    values = array(code)
    view = memoryview(data)  # type: ignore[arg-type]  # anything with a buffer: arrays, numpy, pyarrow
    size = view.nbytes
    if size % values.itemsize or (count is not None and size != count * values.itemsize):
        raise ColumnsError(f"an array of {size} bytes for {count} rows of {values.itemsize}")
    values.frombytes(view.cast("B") if view.nbytes else b"")
    return values


def _texts(data: object, offsets: object, count: int) -> list[bytes]:
    """The texts of an Arrow column."""
    edges, text = _array("i", offsets, count + 1), bytes(memoryview(data))  # type: ignore[arg-type]  # as above
    previous = 0
    for edge in edges:
        if not previous <= edge <= len(text):
            raise ColumnsError("offsets of texts that step back or lead outside")
        previous = edge
    return [text[edges[i] : edges[i + 1]] for i in range(count)]
