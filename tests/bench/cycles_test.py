#!/usr/bin/env python3
"""bench/cycles on machine code made by hand, whose cycles are known."""
import contextlib
import io
import os
import sys
import tempfile
import unittest
from dataclasses import replace

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "cycles"))

import cubin
import machine as machines
import sass
import table
from replay import Replay, Stuck, Warp, compile_way
from signals import Link, Producer, Signal
from ways import Code, NoWay, find_loop, find_way

H100 = machines.at_point(machines.H100, True, "best")


def instruction(text, stall=1, result=7, operands=7, waits=(), predicate="", address=0, target=None):
    return sass.Instruction(address, text, predicate, stall, False, result, operands, waits, target)


def program(*rows):
    """Instructions at 0x00, 0x10, ...; a row is a text or (text, fields)."""
    rows = [row if isinstance(row, tuple) else (row, {}) for row in rows]
    return [instruction(text, address=16 * n, **fields) for n, (text, fields) in enumerate(rows)]


def replayed(*programs, signs=(), signals=None, machine=H100, producers=(), link=None):
    """Warps W0, W1, ... after they have done their programs, and the replay."""
    warps = [Warp(f"W{n}", compile_way(machine, rows, signs[n] if signs else [])) for n, rows in enumerate(programs)]
    replay = Replay(machine, warps, signals or {}, link or Link(0, 1), producers)
    for warp in warps:
        replay.run(warp)
    return warps, replay


class Decoder(unittest.TestCase):
    def test_control_bits(self):
        high = 5 << 41 | 0 << 45 | 2 << 46 | 7 << 49 | 0b100001 << 52
        self.assertEqual(sass.decode_control(high), (5, True, 2, 7, (0, 5)))
        self.assertEqual(sass.decode_control(0x000fe20000000800), (1, False, 7, 7, ()))

    def test_listing(self):
        functions = sass.parse("""
.text.first:
        /*0000*/                   S2R R5, SR_TID.X ;                    /* 0x0000000000057919 */
                                                                         /* 0x000e620000002100 */
.L_x_3:
        /*0010*/               @P0 BRA `(.L_x_3) ;                       /* 0x0000000000700947 */
                                                                         /* 0x002fdc0003800000 */
.text.second:
        /*0000*/                   EXIT ;                                /* 0x000000000000794d */
                                                                         /* 0x000fea0003800000 */
""")
        self.assertEqual(list(functions), ["first", "second"])
        read, branch = functions["first"]
        self.assertEqual((read.opcode, read.result, read.stall, read.waits), ("S2R", 1, 1, ()))
        self.assertEqual((branch.family, branch.predicate, branch.target, branch.stall, branch.waits),
                         ("BRA", "P0", 16, 14, (1,)))
        self.assertTrue(branch.yields)


    def test_tensor_cores(self):
        def uses(*opcodes):
            code = b"".join(opcode.to_bytes(16, "little") for opcode in opcodes)
            return cubin.Kernel("", 0, "", 90, 0, code).uses_tensor_cores()

        self.assertTrue(uses(0x23c, 0x94d))  # HMMA with its operands in registers
        self.assertTrue(uses(0x94d, 0x79f0))  # HGMMA
        self.assertFalse(uses(0x223, 0x94d, 0x3c << 64))


class Ways(unittest.TestCase):
    CODE = Code(program(
        "MOV R1, R2",
        "HMMA.16816.F32 R4, R1, R2, R4",                     # 1: head of the loop
        ("BRA `(.L_x_1)", {"predicate": "P0", "target": 0x50}),
        "FSEL R3, R3, R4, P1",                               # a mask
        "FSEL R5, R5, R4, P1",
        "MUFU.EX2 R6, R7",                                   # 5
        ("BRA.U UP0, `(.L_x_2)", {"target": 0x10}),
        "STG.E.128 [R2], R4",
        ("BRA `(.L_x_3)", {"target": 0x00}),
        "EXIT"))

    def test_a_loop_is_the_shortest_way_with_its_marks(self):
        self.assertEqual(find_loop(self.CODE, [("HMMA", 1), ("MUFU", 1)]), [1, 2, 5, 6])
        self.assertEqual(find_loop(self.CODE, [("HMMA", 1), ("FSEL", 2), ("MUFU", 1)]), [1, 2, 3, 4, 5, 6])

    def test_marks_come_in_order_and_nothing_else_of_their_kind(self):
        for marks in ([("STG", 1)], [("HMMA", 0)], [("HMMA", 1), ("FSEL", 1)]):
            with self.subTest(marks), self.assertRaises(NoWay):
                find_way(self.CODE, 0, 7, marks)

    def test_between_loops(self):
        self.assertEqual(find_way(self.CODE, 7, 1, [("STG", 1)]), [7, 8, 0])
        with self.assertRaises(NoWay):  # a branch without a condition does not go on
            find_way(self.CODE, 7, 9, [])


class Pipes(unittest.TestCase):
    def test_stall_counts(self):
        (warp,), _ = replayed(program(*[("FFMA R0, R0, R0, R0", {"stall": 4})] * 10))
        self.assertEqual(warp.ready, 40)

    def test_exponentials_hold_their_pipe_eight_cycles(self):
        (warp,), replay = replayed(program(*["MUFU.EX2 R0, R1"] * 8))
        self.assertEqual(warp.ready, 7 * 8 + 1)
        self.assertEqual(replay.busy["mufu"], 64)
        self.assertEqual(warp.waits["mufu pipe"], 7 * 7)

    def test_warps_share_issue_slot_and_pipes(self):
        warps, _ = replayed(program(*["FFMA R0, R0, R0, R0"] * 10), program(*["FADD R0, R0, R0"] * 10))
        self.assertEqual(max(warp.ready for warp in warps), 20)
        warps, _ = replayed(*[program(*["FMNMX R0, R0, R1, PT"] * 10)] * 2)
        self.assertEqual(max(warp.ready for warp in warps), 19 * 2 + 1)

    def test_scoreboards(self):
        (warp,), _ = replayed(program(("MUFU.EX2 R0, R1", {"result": 3}), ("FADD R2, R0, R0", {"waits": (3,)})))
        self.assertEqual(warp.ready, H100.latencies["MUFU"] + 1)
        self.assertEqual(warp.waits["MUFU"], H100.latencies["MUFU"] - 1)

    def test_shared_memory_is_everybodys(self):
        (warp,), _ = replayed(program(*["LDSM.16.M88.4 R0, [R1]"] * 4))
        self.assertEqual(warp.ready, 3 * 16 + 1)  # 512 bytes of each of four warps, 128 a cycle

    def test_mma_sync(self):
        a100 = machines.at_point(machines.A100, False, "typical")
        for opcode, cycles in (("HMMA.16816.F32.BF16", 8), ("HMMA.1688.F32.TF32", 8), ("HMMA.1688.F32", 4)):
            (warp,), _ = replayed(program(*[f"{opcode} R0, R4, R6, R0"] * 5), machine=a100)
            self.assertEqual(warp.ready, 4 * cycles + 1, opcode)


class TensorCores(unittest.TestCase):
    PRODUCTS = (["HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24"] * 7 +
                ["HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24, gsb0", "WARPGROUP.DEPBAR.LE gsb0, 0x0"])

    def test_a_loop_of_eight_products_takes_what_was_measured(self):
        # bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3-micro.jsonl, pipes.wgmma.ss.1wg: 585.3
        (warp,), _ = replayed(program("WARPGROUP.ARRIVE", *self.PRODUCTS, ("BRA `(.L_x_1)", {"stall": 9})))
        self.assertAlmostEqual(warp.ready, 585.3, delta=10)

    def test_the_queue(self):
        few = replace(H100, tensor_queue=2)
        (warp,), _ = replayed(program(*self.PRODUCTS[:6]), machine=few)
        # The sixth issues when the fourth is done.
        self.assertEqual(warp.ready, H100.wgmma_start + 4 * 64 + 1)

    def test_operands_in_registers_may_take_longer(self):
        slow = replace(H100, wgmma_rs=72)
        code = program("HGMMA.64x128x16.F32 R24, R168, gdesc[UR8].tnspB, R24",
                       "HGMMA.64x128x16.F32 R24, gdesc[UR8], R24")
        self.assertEqual([machines.wgmma_cycles(slow, i) for i in code], [72, 64])


class Protocol(unittest.TestCase):
    def test_turns(self):
        code = program("BAR.SYNC.DEFER_BLOCKING R1, 0x100", ("FFMA R0, R0, R0, R0", {"stall": 15}), "BAR.ARV R2, 0x100")
        signals = {f"turn{n}": Signal(f"turn{n}", ("W0", "W1"), 20) for n in range(2)}
        signals["turn0"].arrive("W1", 0)
        signs = [[("sync", f"turn{me}"), ("pass", f"turn{1 - me}")] * 2 for me in range(2)]
        (first, second), _ = replayed(code * 2, code * 2, signs=signs, signals=signals)
        # Each turn is 16 cycles from behind the wait to the pass, and 20 until the other one sees it.
        self.assertEqual(second.ready - first.ready, 36)
        self.assertGreater(second.waits["turn1"], 36)

    def test_who_waits_for_ever_is_named(self):
        signals = {"K+": Signal("K+", ("producer",), 0)}
        with self.assertRaisesRegex(Stuck, "W0 at SYNCS.PHASECHK"):
            replayed(program("SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R1], R2"), signs=[[("wait", "K+")]], signals=signals)

    def test_a_protocol_that_is_not_the_codes_is_refused(self):
        code = program("SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R1], R2", "SYNCS.ARRIVE.TRANS64.A1T0 RZ, [R1], RZ")
        for signs in ([("arrive", "K-"), ("wait", "K+")], [("wait", "K+")], [("wait", "K+"), ("arrive", "K-")] * 2):
            with self.subTest(signs), self.assertRaises(Stuck):
                compile_way(H100, code, signs)

    def step(self, latency, rate, stages):
        """Cycles of a step that needs 1000 bytes, computes 100 cycles, and gives them back."""
        signals = {"K+": Signal("K+", ("producer",), 0), "K-": Signal("K-", ("W0",), 0, ahead=stages)}
        link = Link(latency, rate)
        producer = Producer([(signals["K-"], [signals["K+"]], 1000)] * 50, link, 0)
        code = program("SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R1], R2",
                       *[("FFMA R0, R0, R0, R0", {"stall": 9})] * 11, "SYNCS.ARRIVE.TRANS64.A1T0 RZ, [R1], RZ")
        warps = [Warp("W0", compile_way(H100, code * 40, [("wait", "K+"), ("arrive", "K-")] * 40))]
        ops = warps[0].ops
        replay = Replay(H100, warps, signals, link, [producer])
        warps[0].ops = ops[:len(ops) // 2]
        begin = replay.run(warps[0]) and warps[0].ready
        warps[0].ops = ops
        return (replay.run(warps[0]) and warps[0].ready - begin) / 20

    def test_copies(self):
        self.assertEqual(self.step(latency=50, rate=100, stages=2), 101)  # computing
        self.assertEqual(self.step(latency=50, rate=5, stages=2), 200)  # the rate
        # The latency: a stage is given back in the last of its 101 cycles, and comes again behind it.
        self.assertEqual(self.step(latency=400, rate=100, stages=1), 500)
        self.assertEqual(self.step(latency=400, rate=100, stages=2), 250)


class Table(unittest.TestCase):
    NAME = ("sm90_forward<bf16, 128, plain>", "sm_90")

    def check(self, now, kept, assembler="13.0.88"):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "table.tsv")
            table.write(kept, "13.0.88", path)
            self.assertEqual(table.read(path), (kept, "13.0.88"))
            measure, table.measure = table.measure, lambda library: (now, assembler)
            said = io.StringIO()
            try:
                with contextlib.redirect_stdout(said):
                    return table.check("libqkv.so", path), said.getvalue()
            finally:
                table.measure = measure

    def test_a_row_that_worsens_fails(self):
        for now in ((2070, 17000), (2048, 17200)):
            status, said = self.check({self.NAME: now}, {self.NAME: (2048, 17000)})
            self.assertEqual(status, 1)
            self.assertIn("% more than", said)

    def test_a_row_that_stays_or_gains_does_not(self):
        for now in ((2048, 17000), (2060, 17100), (1900, 15000)):
            self.assertEqual(self.check({self.NAME: now}, {self.NAME: (2048, 17000)})[0], 0)

    def test_rows_that_come_and_go_fail(self):
        other = ("sm90_forward<f16, 128, plain>", "sm_90")
        self.assertEqual(self.check({self.NAME: (1, 1), other: (1, 1)}, {self.NAME: (1, 1)})[0], 1)
        self.assertEqual(self.check({self.NAME: (1, 1)}, {self.NAME: (1, 1), other: (1, 1)})[0], 1)

    def test_rows_of_architectures_that_a_build_lacks_do_not(self):
        other = ("sm80_forward<f16, 64, tall>", "sm_120")
        self.assertEqual(self.check({self.NAME: (1, 1)}, {self.NAME: (1, 1), other: (1, 1)})[0], 0)

    def test_another_assembler_is_said_and_skipped(self):
        status, said = self.check({self.NAME: (4000, 1)}, {self.NAME: (2048, 1)}, "13.1.80")
        self.assertEqual(status, table.SKIPPED)
        self.assertIn("13.1.80", said)


if __name__ == "__main__":
    unittest.main()
