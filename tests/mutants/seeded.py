"""The seeded bugs: what somebody might get wrong in good faith, each with the tests that have to notice.

A bug is a few replacements of text. Each old text stands exactly once in its file, so that a bug that no longer fits
the code is noticed instead of silently changing nothing.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """In this file, this text becomes that one."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """One bug: its name, what is changed, and the tests (as pytest names them) of which one at least must turn red."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


def mutant(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """A bug in one place."""
    return Mutant(name, (Edit(file, old, new),), tests)


PUT = "        stored = await self.home.store.put(packet, packet.header.tailer)\n"
ACK_FIRST = "        await self.link.send(m.Ok(message.ask, 1, False))\n" + PUT + "        return\n"
GO = "            await self._store.machine.slow(self._store.machine.disk.unlink, part.path)\n"
BEFORE_REMNANT = '            faultpoint("buck.pruning.before_remnant")\n'
DROPS_EQUAL = """\
    elif _agree(piece, under):
        _keep_rest(piece, under, result)
"""

MUTANTS = (
    # --- what an acknowledgement is worth ---
    mutant(
        "a packet is acknowledged before it is written",
        "buck/session.py", PUT, ACK_FIRST,
        "tests/buck/test_session.py::test_a_full_buck_says_so_and_takes_packets_again_later",
    ),
    mutant(
        "a class that asks for an fsync is acknowledged without",
        "buck/session.py", "if packet.header.kind.sync and stored.level < SYNCED:", "if False:",
        "tests/buck/test_session.py::test_a_packet_with_class_sync_is_acknowledged_when_synced_and_holds_up_nobody",
    ),
    mutant(
        "the folder of a new bucket file is not fsynced",
        "buck/volume.py",
        "            await self.machine.disk.fsync_folder(part.folder)\n", "",
        "tests/buck/test_store.py::test_the_name_of_a_part_is_durable_before_the_first_ok",
    ),
    mutant(
        "a receipt calls synced what is only held",
        "buck/store.py",
        "synced |= mine if part.synced >= part.size else group.ranges(part.synced)",
        "synced |= mine",
        "tests/buck/test_store.py::test_a_receipt_tells_synced_from_held",
        "tests/buck/test_store.py::test_what_comes_during_an_fsync_is_not_covered_by_it",
    ),
    mutant(
        "a failed fsync is tried again on the same file",
        "buck/durable.py", "            part.fail()\n", "",
        "tests/buck/test_store.py::test_D12_a_failed_fsync_is_final_for_its_file_and_its_disk",
    ),
    mutant(
        "after an unclean restart nothing is marked unsure",
        "buck/volume.py", "        await self.doubt(left_open | {", "        await self.doubt({",
        "tests/buck/test_volume.py::test_after_a_kill_an_open_bucket_is_unsure_and_stays_so",
    ),
    mutant(
        "a torn tail is taken over with the file",
        "buck/bucket.py", "            self.file.truncate(end)\n", "            pass\n",
        "tests/buck/test_bucket.py::test_D1_a_tail_torn_at_any_byte_is_cut_and_no_packet_before_it_lost",
    ),
    # --- what is the same and what is not ---
    mutant(
        "a buck takes two packets under one key for one",
        "buck/store.py", "                if digest == packet.digest:\n", "                if digest:\n",
        "tests/buck/test_store.py::test_one_key_with_other_bytes_is_kept_beside_and_counted",
    ),
    Mutant(
        "readers compare events by their crc",
        (
            Edit(
                "porter/merge.py",
                "text_of(piece, first, end) != text_of(old, first, end)",
                "crc32(text_of(piece, first, end)) != crc32(text_of(old, first, end))",
            ),
            Edit("porter/merge.py", "from operator import attrgetter\n",
                 "from operator import attrgetter\nfrom zlib import crc32\n"),
        ),
        ("tests/porter/test_merge.py::test_events_with_one_crc_and_other_bytes_are_a_clash",),
    ),
    mutant(
        "readers show every copy of an event",
        "porter/merge.py", DROPS_EQUAL, "    elif _agree(piece, under):\n        result.kept.append(piece)\n",
        "tests/porter/test_merge.py::"
        "test_each_identity_with_equal_bytes_is_shown_once_and_other_bytes_beside_it",
    ),
    mutant(
        "the first instant of a bucket is filed in the one before",
        "tailer/blocks.py", "return point // POINT_HZ // self.width * self.width",
        "return (point - 1) // POINT_HZ // self.width * self.width",
        "tests/tailer/test_blocks.py::test_a_line_at_the_edge_of_a_bucket_belongs_to_the_later_one",
    ),
    mutant(
        "every start of a tailer is of one epoch",
        "tailer/agent.py", "epoch=epoch(found.boots, machine.entropy(4))", "epoch=epoch(1, bytes(4))",
        "tests/tailer/test_agent.py::test_T64_killed_at_any_moment_nothing_is_lost_and_nothing_comes_twice",
        "tests/tailer/test_agent.py::test_once_after_once_sends_only_what_is_new",
    ),
    mutant(
        "a file that was rewritten is read on where it was",
        "tailer/inputs/follow.py", "if size < overlap or room[:overlap] != self.tail:", "if size < overlap:",
        "tests/tailer/test_follow.py::test_T32_truncated_and_refilled_larger",
        "tests/tailer/test_follow.py::test_T31_only_the_middle_changed_and_the_tail_tells",
    ),
    # --- copies and seals ---
    mutant(
        "the third copy is forgotten",
        "tailer/mend.py", "return copies or (A2_COPIES if entry.kind.resend else entry.kind.copies)",
        "return copies or entry.kind.copies",
        "tests/tailer/test_mend.py::test_after_its_window_a_packet_has_three_fsynced_copies_a_seal_and_is_forgotten",
    ),
    mutant(
        "the journal forgets before receipts have verified the copies",
        "tailer/mend.py", "return len(entry.synced) >= A2_COPIES or self.members.nodes <= set(entry.synced)",
        "return len(entry.stored) >= A2_COPIES or self.members.nodes <= set(entry.stored)",
        "tests/tailer/test_mend.py::test_copies_that_were_acknowledged_and_not_fsynced_are_not_enough_to_forget",
    ),
    mutant(
        "a seal's number is given twice",
        "tailer/sealing.py", "number=number + 1,", "number=max(number, 1),",
        "tests/tailer/test_mend.py::test_the_chain_goes_on_over_clean_and_unclean_restarts",
    ),
    Mutant(
        "a seal is shown before the journal has it",
        (
            Edit("tailer/sealing.py",
                 "            self.journal.add_seal(seal)\n            await self.journal.sync()\n",
                 "            self.journal.add_seal(seal)\n"),
            Edit("tailer/sealing.py",
                 "            await self.journal.sync()\n        except JournalError:\n            return  #",
                 "            pass\n        except JournalError:\n            return  #"),
        ),
        ("tests/tailer/test_mend.py::test_a_seal_is_synced_in_the_journal_before_anybody_sees_it",),
    ),
    # --- what may be deleted ---
    mutant(
        "packets are let go of before the archive is verified",
        "porter/prune.py", "elif await archive.digest(str(part)) != wanted:", "elif not wanted:",
        "tests/porter/test_prune.py::test_nothing_is_named_of_an_object_that_is_not_what_its_verdict_says",
    ),
    Mutant(
        "a bucket file goes with packets that are not archived",
        (
            Edit("buck/pruning.py", "        if others:\n", "        if False:\n"),
            Edit("buck/pruning.py", "        if left := unnamed(lying, named):", "        if left := lying[:0]:"),
        ),
        ("tests/buck/test_pruning.py::test_one_packet_that_is_not_named_keeps_its_file_and_no_other",),
    ),
    Mutant(
        "a bucket file goes before what stays of it is written",
        (
            Edit("buck/pruning.py", GO, ""),
            Edit("buck/pruning.py", BEFORE_REMNANT, GO + BEFORE_REMNANT),
        ),
        (
            "tests/buck/test_pruning.py::"
            "test_D26_killed_between_the_mark_and_the_unlink_it_is_finished_by_the_next_start",
            "tests/simulation/test_crash_enumeration.py::test_D23_every_crash_of",
        ),
    ),
    # --- who may do what, and how much of it ---
    mutant(
        "a tailer may put another one's packets",
        "buck/session.py", "if packet.header.tailer != self.link.peer.node:", "if False:",
        "tests/buck/test_door.py::test_A32_a_tailer_puts_packets_of_its_own_id_only",
    ),
    mutant(
        "what a role may ask is not looked at",
        "protocol/connection.py", "role: _table({kind: State.OPEN for kind in kinds})",
        "role: _table({kind: State.OPEN for kind in ANSWERS})",
        "tests/protocol/test_connection.py::test_nobody_may_ask_for_more_than_its_work_needs",
    ),
    mutant(
        "a body is unpacked whole, however long it gets",
        "protocol/packet.py", "decompress(rest, max_length=size - held + 1)", "decompress(rest)",
        "tests/protocol/test_packet.py::test_A15_a_body_that_unpacks_to_too_much_costs_no_memory",
    ),
    mutant(
        "the digest of a packet is not checked",
        "protocol/packet.py", "if verify and blake3(", "if verify and not size and blake3(",
        "tests/protocol/test_packet.py::test_every_single_flipped_bit_is_caught",
    ),
    mutant(
        "a peer that sends what is no msgpack ends more than its link",
        "protocol/payload.py", "    except (PackedError, SchemaError) as error:", "    except SchemaError as error:",
        "tests/fuzz/test_fuzz.py::test_whatever_comes_is_read_or_refused",
    ),
    # --- the tests' own tools ---
    mutant(
        "the simulator cancels a killed process and leaves it its disk",
        "tests/simulation/machine.py", "        self.disk.kill()\n", "",
        "tests/simulation/test_simulated_faults.py::test_a_killed_process_keeps_its_page_cache_and_loses_its_hands",
    ),
    mutant(
        "the checker takes what came twice for well",
        "tests/scenarios/checker.py", "if name and len(lines) > 1", "if name and len(lines) > 2",
        "tests/scenarios/test_checker.py",
    ),
)  # fmt: skip
