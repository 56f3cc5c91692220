"""Every bound and version number of the formats and the wire, each with its reason.

All lengths that come from outside are held against one of these before anything is awaited or allocated. Changing one
of the first two groups changes what old files mean; the third group may grow as soon as all peers know the new value.
"""

from typing import Final

# --- what is written: never change these ---------------------------------------------------------------------------

PACKET_VERSION: Final = 1  # of a packet's body; the envelope has none, since it never changes
EVENT_VERSION: Final = 1  # Event v1's first byte
SEAL_VERSION: Final = 1  # first member of a seal
ROSTER_VERSION: Final = 1  # first member of a retirement
STATEMENT_VERSION: Final = 1  # first member of a statement of what is archived
POINT_HZ: Final = (
    100_000_000  # points are units of 10 ns: fits a signed 64-bit integer for thousands of years, ns wouldn't past 2262
)
POINT_MAX: Final = (1 << 63) - 1  # the year 4892: differences of points, and archives, are signed 64-bit integers
LINE_MAX: Final = 65_000  # a line with its metadata must fit 65,535 bytes as Event v1 (u16 lengths)
WIDTH_S: Final = 300  # default bucket width: five minutes are ~1 GiB on a busy buck, and a search's smallest step
WIDTH_MAX_S: Final = 86_400  # a bucket never spans days: folders and archive objects are named by date

# --- one packet ---------------------------------------------------------------------------------------------------

PACKET_RAW_MAX: Final = 2 << 20  # measured: 4 MiB saves 1.5 % more only; a packet's work must stay under ~5 ms
PACKET_BODY_MAX: Final = 8 << 20  # columns of 2 MiB raw fit four times over, even if each line is a single LF
PACKET_SIZE_MAX: Final = 8 << 20  # whole packet on wire and disk: what a buck must hold in memory for each put
HEADER_MAX: Final = 512 << 10  # 1,024 streams with paths of some 100 bytes and 4,096 runs fit
PACKET_EVENTS_MAX: Final = 131_072  # 16 raw bytes a line at 2 MiB: below that a packet is cut by count
PACKET_RUNS_MAX: Final = 4_096  # 4,096 runs of ~20 bytes fit the header; more switching than that closes the packet
PACKET_STREAMS_MAX: Final = 1_024  # the index of a stream in columns is a u16, and the header must stay small
FORMATS_MAX: Final = 128  # a packet's and a stream's: index is a u8 where 255 means none; real streams have under 10
DICTIONARY_MAX: Final = 255  # shn and app indexes are u8, 255 means none
NAME_MAX: Final = 255  # host, env, shn, app: u8 lengths in Event v1
ENV_MAX: Final = 64  # an env is also a folder's name and a metric's label
PATH_MAX: Final = 4_096  # Linux's own PATH_MAX
HEAD_MAX: Final = 1_024  # bytes of a file's head that name it: a first line may be this long
COPIES_MAX: Final = 3  # "any two can die" is the largest promise made
BUILDERS_MAX: Final = 8  # open packets of a tailer: 8 x 2 MiB raw is the memory that it may take
LATE_S: Final = 86_400  # older than this is filed by arrival: the archive waits 48 h, twice this
EARLY_S: Final = 600  # further ahead than this is a wrong clock, filed by arrival too
ZSTD_WINDOW_LOG: Final = 21  # the window is the packet (2 MiB): up to -12 % in size for no CPU
ZSTD_WINDOW_LOG_MAX: Final = 23  # what a reader grants a foreign frame: 8 MiB of memory

# --- seals and sets of numbers ------------------------------------------------------------------------------------

RANGES_MAX: Final = 65_536  # intervals in one set on the wire; a sane set has a handful, a hostile one this many
SEAL_SIZE_MAX: Final = 4 << 20  # 16 bytes a packet: 200,000 packets in one window is beyond any tailer
SEAL_SECTIONS_MAX: Final = 16_384  # (epoch, bucket, class) added by one seal; a day of buckets is 288
SEAL_PACKETS_MAX: Final = 200_000  # packets that one seal adds: what its size has room for
RETIREMENT_SIZE_MAX: Final = 1_024  # two names, two keys and some numbers
RETIRED_MAX: Final = 4_096  # nodes retired in an env, ever: 4 MiB of a buck's memory, and of an answer
ROSTER_MAX: Final = 32_768  # tailers expected in an env: with the longest names 9 MiB of an answer
STATEMENT_PACKETS_MAX: Final = 700_000  # packets named at once: more than one bucket file takes by its memory
STATEMENT_SIZE_MAX: Final = 15 << 20  # 16 bytes each, and their keys: it must fit a frame

# --- wire ---------------------------------------------------------------------------------------------------------

WIRE_VERSION: Final = 1  # in the preface; a peer with another is refused with both numbers in the text
FRAME_SIZE_MAX: Final = 16 << 20  # no frame of any type is longer: twice the largest packet
SMALL_FRAME_MAX: Final = 8 << 10  # questions and short answers: nobody can make us parse more for these
MEDIUM_FRAME_MAX: Final = 128 << 10  # a question with 4,096 streams by id and by head
PEERS_FRAME_MAX: Final = 1 << 20  # 1,024 peers with the longest names
LIST_FRAME_MAX: Final = 4 << 20  # answers that are lists: ~100,000 entries of ~35 bytes
BUCKETS_MAX: Final = 65_536  # in one answer: who gets so many asks for those behind them
ENTRIES_MAX: Final = 131_072  # members of any list in a message: bounds what msgpack may allocate ahead
TEXT_MAX: Final = 512  # an explanation for people in a refusal
PEERS_MAX: Final = 1_024  # bucks in a view: clusters are 3 to 60, so anything near this is an attack
COVERED_STREAMS_MAX: Final = 4_096  # streams asked for at once; a tailer with more asks again
ASKS_MAX: Final = 1_024  # questions under way on one link: beyond, the asker waits (each holds a packet in memory)
READ_MIN: Final = 64 << 10  # bytes taken from an idle link's socket at once, and held without asking for memory
READ_MAX: Final = 1 << 20  # bytes taken at once from a link that always fills them: several packets a switch
CORK_MAX: Final = 16  # short answers kept back while questions are waiting behind them: one system call for all
JOIN_MAX: Final = 320 << 10  # a usual packet and its head: copying them together is cheaper than waking the peer twice
SEND_MAX: Final = 512 << 10  # what a peer must take within SEND_STALL_S
SLICE: Final = 64 << 10  # who watches whether a frame goes on looks so often: 64 kB/s are still a way that goes on
PARTS_BYTES_MAX: Final = 32 << 20  # answers in parts that may wait for their reader before the link stops reading
HANDSHAKE_S: Final = 5.0  # from connect to Hello: longer is a dead host or an idle attacker
HANDSHAKES_MAX: Final = 256  # under way at once: one more, and the oldest makes room; a fleet of 200 may come at once
HANDSHAKE_FAILURES: Final = (
    256  # of one address, before it has to wait: a fleet behind it may be misconfigured for once
)
HANDSHAKE_FAILURES_HZ: Final = 32  # and so many a second from then on: some 3 % of a core at most
FIRST_MESSAGE_MAX: Final = 96  # what a stranger may make us hold before it has shown that it speaks this protocol
HANDSHAKE_MESSAGE_MAX: Final = 2_048  # two keys and a certificate of 1,024 bytes; before that nobody is known
REKEY_RECORDS: Final = 65_536  # sealed with one key: 4 GiB at most are in reach of who steals it from memory
SEND_STALL_S: Final = 20.0  # a peer that takes next to nothing for this long is gone; its link must not pin memory
PING_S: Final = 20.0  # an asker with nothing to say asks for the clock, so that a dead peer shows
IDLE_S: Final = 90.0  # an answering side that hears nothing for four pings and a bit closes the link

# --- live ---------------------------------------------------------------------------------------------------------

LIVE_AGE_MS: Final = 30_000  # older packets aren't shown live: they belong to the past, which is asked for apart
LIVE_REMEMBER_S: Final = 600.0  # by a viewer: longer than a copy's way through a stopped buck or a cut link lasts
LIVE_ROWS_BYTES: Final = 64 << 10  # a frame of rows is closed at this size: a slow viewer loses little at a time
LIVE_ROWS_MAX: Final = 4_096  # rows of 21 bytes, the shortest there are, fill such a frame
LIVE_FRAME_MAX: Final = 192 << 10  # that and one longest row, with offsets, host and path
LIVE_LINK_MAX: Final = 4  # standing questions (Live, Watch) of one link: each holds a place among its answers

# --- queries ------------------------------------------------------------------------------------------------------

QUERY_MAX: Final = 4_096  # characters in a query: longer ones are generated, and belong in several
QUERY_TERMS_MAX: Final = 256  # each term is looked for in each line
QUERY_DEPTH_MAX: Final = 32  # nesting of brackets: the reader is recursive
REGEX_MAX: Final = 1_024  # characters of a regular expression
