#!/usr/bin/env python3
"""mutate.py BUILD [NAME...] - changes the CUDA sources in ways that only a GPU or the emulator can
detect, and fails if the kernel checks still pass. Each change needs a compilation. `mutate.py
BUILD some` makes one change of each kind, as CI does, and only checks for the other changes that
the text to be replaced exists. BUILD must be built with the emulator. Needs the standard library
only."""
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK_SUM = """    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = v;
    __syncthreads();
    T sum"""
# name, source file, [program:]compiled unit, checks that must fail (for bfloat16 attention: cases of
# its test; for `fused`: all its checks), [(text, replacement)]
MUTATIONS = [
    ("dropped barrier in the block's sum", "kernels/cuda/device.cuh", "rmsnorm", ["rmsnorm_fwd"],
     [(BLOCK_SUM, BLOCK_SUM.replace("    __syncthreads();\n", ""))]),
    ("dropped barrier before the next page", "kernels/cuda/attention.cu", "attention",
     ["attention_fwd"],
     [("            __syncthreads(); /* all threads have finished reading the previous page */\n", "")]),
    ("dropped barrier of a warp", "kernels/cuda/attention.cu", "attention", ["attention_fwd"],
     [("            __syncwarp();\n            for (int j", "            for (int j")]),
    ("tail guard off by one", "kernels/cuda/device.cuh", "rows", ["add_fwd"],
     [("if (j + e < n)\n                    narrow", "if (j + e <= n)\n                    narrow")]),
    ("tail of a row guarded by one too many", "kernels/cuda/rows.cu", "rows", ["gather_fwd"],
     [("    if (j < c)\n        store(y + i", "    if (j <= c)\n        store(y + i")]),
    ("wrong lane mask", "kernels/cuda/device.cuh", "rmsnorm", ["rmsnorm_fwd"],
     [("0xffffffffu", "0x7fffffffu")]),
    ("butterfly that starts too low", "kernels/cuda/device.cuh", "rmsnorm", ["rmsnorm_fwd"],
     [("with = WARP / 2; with > 0; with >>= 1)\n        v +=", "with = 8; with > 0; with >>= 1)"
       "\n        v +=")]),
    ("copy back without waiting for it", "src/backend/backend_cuda.c", "backend_cuda", ["add_fwd"],
     [("cuda_receive(b, host, device, bytes));\n    return cuda_sync(b);",
       "cuda_receive(b, host, device, bytes));\n    return PLUMB_OK;")]),
    ("window one key too wide", "kernels/cuda/attention_bwd.cu", "attention_bwd",
     ["attention_bwd"], [("at - pos[r] < shape.window", "at - pos[r] <= shape.window")]),
    ("another algorithm for each range of rows", "kernels/cuda/gemm_cache.cu", "gemm_cache",
     ["linear_fwd"], [("entry.algo[k] = result[i].algo", "entry.algo[k] = result[(i + k) % found].algo")]),
    ("vector store without looking at alignment", "kernels/cuda/rows.cu", "rows", ["alignment"],
     [("n,\n                       aligned16(y, a, b)", "n,\n                       true")]),
    ("bfloat16 pair the other way round", "kernels/cuda/device.cuh", "rows", ["bf16_add_fwd"],
     [("__floats2bfloat162_rn(low, high)", "__floats2bfloat162_rn(high, low)")]),
    ("upper bfloat16 read with its neighbour's bits", "kernels/cuda/device.cuh", "act",
     ["bf16_act_fwd"], [("word[i] & 0xffff0000u", "word[i]")]),
    ("bfloat16 cut off instead of rounded", "kernels/cuda/device.cuh", "rows", ["bf16_gather_bwd"],
     [("to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x))",
       "to->bits = uint16_t(__float_as_uint(x) >> 16)")]),
    ("bias of a bfloat16 layer lost", "kernels/cuda/linear.cu", "linear",
     ["bf16_linear_fwd"], [("bias ? 1.0f : 0.0f", "0.0f")]),
    ("rows of a slice's last warp lost", "kernels/cuda/rmsnorm.cu", "rmsnorm", ["rmsnorm_bwd"],
     [("i < TEAM_WARPS; i++)\n        all += part", "i < TEAM_WARPS - 1; i++)\n        all += part")]),
    ("last slice of the rows lost", "kernels/cuda/rmsnorm.cu", "rmsnorm", ["rmsnorm_bwd"],
     [("dw, context->chunk, slices, c);", "dw, context->chunk, slices - 1, c);")]),
    ("doubtful random numbers kept as the device drew them", "kernels/cuda/normal.cu", "normal",
     ["normal"], [("if (i < count)\n        w[", "if (i < 0)\n        w[")]),
    ("random numbers of each block's own count", "kernels/cuda/normal.cu", "normal", ["normal"],
     [("key.position = uint32_t(first + i);\n        key.sample = uint32_t((first + i) >> 32);\n        plumb",
       "key.position = uint32_t(threadIdx.x);\n        key.sample = uint32_t((first + i) >> 32);\n        plumb")]),
    ("values of a joined row read as keys", "kernels/cuda/fused.cu", "fused:fused", [],
     [("page * hk + head - (key ? h : h + hk)", "page * hk + head - h - (key ? 0 : hk - 1)")]),
    ("part of the rotation copied", "kernels/cuda/fused.cu", "fused:fused", [],
     [("unit * UNIT >= r", "unit * UNIT >= half")]),
    ("a kernel that does not wait for the one before", "kernels/cuda/fused.cu", "fused:fused", [],
     [("    wait_for_previous();\n    constexpr int N = PER<T>;", "    constexpr int N = PER<T>;")]),
    ("rows of a product copied while they are computed", "kernels/cuda/gemm_skinny.cu",
     "gemm_cache:gemm_skinny", [],
     [("    wait_for_previous();\n", ""),
      ("        copy_async_commit();\n    }\n    for (int64_t at", "        copy_async_commit();\n    }\n"
       "    wait_for_previous();\n    for (int64_t at")]),
    ("step of a product read before it is there", "kernels/cuda/gemm_skinny.cu",
     "gemm_cache:gemm_skinny", [], [("copy_async_wait(STAGES - 2)", "copy_async_wait(STAGES - 1)")]),
    ("dropped barrier before a buffer of the ring is used", "kernels/cuda/gemm_skinny.cu",
     "gemm_cache:gemm_skinny", [], [("        __syncthreads(); /* step", "        /* step")]),
    ("second half of a pair rotated the other way", "kernels/cuda/elementwise.cu", "elementwise",
     ["rope_fwd"], [("fmaf(v.v[e], c.v[e], before * turn)", "fmaf(v.v[e], c.v[e], -before * turn)")]),
    ("swapped fragment of keys", "kernels/cuda/attention_bf16.cuh", "attention_bf16", ["0"],
     [("(lane / 16 * 8 + lane % 8) * STRIDE<D> + k * MMA + lane / 8 % 2 * 8",
       "(lane / 8 % 2 * 8 + lane % 8) * STRIDE<D> + k * MMA + lane / 16 * 8")]),
    ("swapped fragment of probabilities", "kernels/cuda/attention_bf16.cuh", "attention_bf16", ["0"],
     [("a[k][2 * i] = pack", "a[k][i] = pack"), ("a[k][2 * i + 1] = pack", "a[k][i + 2] = pack")]),
    ("swapped halves of a pair", "kernels/cuda/mma.cuh", "attention_bf16", ["0"],
     [("pack2(low, high)", "pack2(high, low)")]),
    ("fragment of keys in another place in the backward", "kernels/cuda/attention_bf16.cuh",
     "attention_bf16_bwd", ["0"],
     [("tile + lane % 16 * STRIDE<D> + c + lane / 16 * 8", "tile + lane % 16 * STRIDE<D> + c + lane / 8 % 2 * 8")]),
    ("dropped wait for a copy", "kernels/cuda/attention_bf16.cu", "attention_bf16", ["0"],
     [("        copy_async_wait(0);\n        __syncthreads(); /* this page", "        __syncthreads(); /* this page")]),
    ("a wait that leaves one copy too many", "kernels/cuda/attention_bf16_decode.cu",
     "attention_bf16_decode", ["0"],
     [("copy_async_wait(ST - 2)", "copy_async_wait(ST - 1)")]),
    ("dropped wait for a copy in the backward", "kernels/cuda/attention_bf16_bwd.cu",
     "attention_bf16_bwd", ["0"],
     [("        copy_async_wait(0);\n        __syncthreads(); /* these pairs", "        __syncthreads(); /* these pairs")]),
    ("dropped barrier before a copied page is read", "kernels/cuda/attention_bf16.cu", "attention_bf16", ["0"],
     [("        __syncthreads(); /* this page", "        /* this page")]),
    ("dropped barrier before scores are exchanged", "kernels/cuda/attention_bf16_decode.cu",
     "attention_bf16_decode", ["0"],
     [("                s[0][0][e];\n        __syncthreads();\n", "                s[0][0][e];\n")]),
    ("copy over a page that is being read", "kernels/cuda/attention_bf16_decode.cu",
     "attention_bf16_decode", ["2"],
     [("copy_ahead((at + ST - 1) % ST)", "copy_ahead(at)")]),
    ("wrong lane mask in the softmax", "kernels/cuda/attention_softmax.cuh", "attention_bf16", ["0"],
     [("__shfl_xor_sync(ALL_LANES, top, 2)", "__shfl_xor_sync(0x7fffffffu, top, 2)")]),
    ("maximum over the wrong lanes", "kernels/cuda/attention_softmax.cuh", "attention_bf16", ["0"],
     [("__shfl_xor_sync(ALL_LANES, top, 2)", "__shfl_xor_sync(ALL_LANES, top, 4)")]),
    ("keys behind the last row are read", "kernels/cuda/attention_bf16.cuh", "attention_bf16", ["0"],
     [("r < keys && e < d", "r < PAGE && e < d")]),
    ("chunks that begin a page late", "kernels/cuda/attention_softmax.cuh", "attention_bf16", ["10"],
     [("block % CHUNK_PAGES == 0", "block % CHUNK_PAGES == 1")]),
    ("window one key too wide in bfloat16", "kernels/cuda/attention_bf16_bwd.cu", "attention_bf16_bwd",
     ["3"], [("f.pos - key[m][i] < window", "f.pos - key[m][i] <= window")]),
    ("head of the wrong group", "kernels/cuda/attention_bf16.cuh", "attention_bf16", ["4"],
     [("t.first_head + (t.rest + p) % t.group", "t.first_head + p % t.group")]),
]


# One change of each kind: barrier, guard, lane mask, wait for a stream, tensor-core fragment, early
# launch.
SOME = ["dropped barrier in the block's sum", "tail guard off by one", "wrong lane mask",
        "copy back without waiting for it", "swapped fragment of keys",
        "a kernel that does not wait for the one before"]


def mutant(path, edits):
    """Returns the source text with the edits. Returns None if a text to be replaced does not
    occur exactly once."""
    text = (ROOT / path).read_text()
    for old, new in edits:
        if text.count(old) != 1 and old != "0xffffffffu":
            return None
        text = text.replace(old, new)
    return text


def run(build, name, path, unit, checks, edits):
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for d in ("kernels/cuda", "src/backend"):
            shutil.copytree(ROOT / d, tree / d)
        text = mutant(path, edits)
        if text is None:
            return "NOT THERE"
        (tree / path).write_text(text)
        commands = json.loads((build / "compile_commands.json").read_text())
        program, _, unit = unit.rpartition(":")
        end = f"{unit}.c" if path.endswith(".c") else f"cuda_emu/{unit}.cpp"
        compile_ = [c for c in commands if c["file"].endswith(end) and "cuda_emu" in c["output"]][0]
        words = shlex.split(compile_["command"])
        source = tree / path if path.endswith(".c") else build / compile_["file"]
        # the command may begin with ccache
        first = next(i for i, word in enumerate(words) if word.startswith("-I"))
        words = [*words[:first], f"-I{tree}/kernels", f"-I{tree}/src", *words[first:words.index("-MD")],
                 "-o", f"{tree}/mutant.o", "-c", str(source)]
        subprocess.run(words, cwd=build, check=True)
        program = program or ("attention_bf16" if unit.startswith("attention_bf16") else "kernels")
        wanted = f"tests/cuda_emu/test_cuda_{program}"
        link = subprocess.run(["ninja", "-C", str(build), "-t", "commands", "-s", wanted],
                              check=True, capture_output=True, text=True).stdout
        words = shlex.split(link.strip().splitlines()[-1])
        at = words.index("-o")
        words[at + 1] = f"{tree}/mutant"
        subprocess.run([*words[:at + 2], f"{tree}/mutant.o", *words[at + 2:]], cwd=build, check=True)
        done = subprocess.run([f"{tree}/mutant", *checks], capture_output=True, text=True,
                              timeout=900, check=False, env={**os.environ, "ASAN_OPTIONS": ""})
        if done.returncode == 0:
            return "NOT CAUGHT"
        said = [line for line in done.stderr.splitlines() if line.strip() and "====" not in line]
        return "caught: " + (said[0][:150] if said else f"exit code {done.returncode}")


def main():
    build, names = Path(sys.argv[1]).resolve(), sys.argv[2:]
    some = names == ["some"]
    missed = 0
    for m in MUTATIONS:
        if some and m[0] not in SOME:
            if mutant(m[1], m[4]) is None:
                missed += 1
                print(f"{m[0]}: NOT THERE", flush=True)
            continue
        if names and not some and m[0] not in names:
            continue
        result = run(build, *m)
        missed += not result.startswith("caught")
        print(f"{m[0]}: {result}", flush=True)
    print(f"{missed} missed" if missed else "all caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
