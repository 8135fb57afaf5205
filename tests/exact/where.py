"""where.py - finds the phase of a running plumb process: stops it for a moment and looks for
certain return addresses on its stack.
Needs objdump, and permission to read the process's memory."""
import contextlib
import os
import re
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

# Phases of an iteration, and the functions of each phase. If several of these functions are on the
# stack, the outermost one counts, because a save calls the gather of shards, too.
PHASES = {
    "generation": ("plumb_rollouts_generate",),
    "scoring": ("plumb_scores_compute", "plumb_rewards_score"),
    "backward": ("plumb_gradient_run",),
    "reduce": ("plumb_optim_step", "plumb_comm_reduce_tree"),
    "save": ("plumb_trainer_save", "plumb_checkpoint_save", "plumb_align_write_rollouts"),
}
# the script must know this phase, or it could take it for another one
OTHERS = {"reference": ("plumb_align_reference",)}
STACK = 1 << 20


CALL = re.compile(r"\s*([0-9a-f]+):\s+(?:call|callq|bl)\s+(?:0x)?[0-9a-f]+ <(\w+)>")


class Where:
    """Finds the phases of processes that run one program."""

    def __init__(self, program):
        self.program = Path(program).resolve()
        self.after = {} # {return address of a call of one of these functions: its phase}
        if not shutil.which("objdump"):
            return
        of = {f: phase for phase, names in {**PHASES, **OTHERS}.items() for f in names}
        code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", self.program], text=True,
                              capture_output=True, check=False).stdout
        called = None
        for line in code.splitlines():
            address = line.partition(":")[0].strip()
            if called and address:
                self.after[int(address.split()[0], 16)] = called
            found = CALL.match(line)
            called = of.get(found.group(2)) if found else None

    def known(self):
        return set(self.after.values()) - set(OTHERS)

    def _base(self, pid):
        """Returns the address at which the program is loaded, or 0 if it is not
        position-independent."""
        with open(self.program, "rb") as f:
            # ET_DYN: a position-independent program
            if struct.unpack_from("<H", f.read(18), 16)[0] != 3:
                return 0
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            fields = line.split()
            if len(fields) == 6 and fields[5] == str(self.program) and int(fields[2], 16) == 0:
                return int(fields[0].split("-")[0], 16)
        raise OSError("the program is not mapped")

    def _look(self, pid):
        fields = Path(f"/proc/{pid}/syscall").read_text().split()
        stack = int(fields[-2], 16)
        base = self._base(pid)
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            memory.seek(stack)
            raw = memory.read(STACK)
        words = struct.unpack(f"<{len(raw) // 8}Q", raw[:len(raw) // 8 * 8])
        # From the outermost frame inwards. Return addresses of earlier calls are still in memory,
        # but only deeper in the stack: all calls in a function store their return address at the
        # same place.
        return next((self.after[w - base] for w in reversed(words) if w - base in self.after), None)

    def stop(self, pid):
        """Stops the process. Returns its phase, "other", or None if the phase is unknown. The caller must
        continue or end the process."""
        with contextlib.suppress(OSError, ValueError, struct.error):
            os.kill(pid, signal.SIGSTOP)
            end = time.monotonic() + 1
            while time.monotonic() < end:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                if state in "Tt":
                    return self._look(pid) or "other"
                if state in "ZX":
                    return None
        return None
