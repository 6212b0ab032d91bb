"""The code that Triton makes of deformable attention's kernels, counted; no GPU is needed for that.

    python -m benchmarks.sampling_code [--capability 90] [--forward 32x4] [--backward 16x4]

For a GPU of a compute capability (80: A100, 90: H100 and H200) and the sizes of paper scale (4 levels, 4 points, 32
channels a head): registers and bytes of stack of a thread, how many warps of a multiprocessor's 64 the registers leave
room for, bytes of shared memory of a program, and barriers, additions to memory and all instructions of a level's pass.
``a sample`` is what a warp issues for one point, a level's pass over all its points. ``--forward`` and ``--backward``
are queries x warps of a program. Triton's wheel has the assembler and the disassembler.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "0"  # read when Triton is imported

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from proseco.base import cli
from proseco.base.errors import InputError, one_of
from proseco.nn import _sampling_gpu

LEVELS, POINTS, WIDTH = 4, 4, 32
KINDS = {"bfloat16": "bf16", "float32": "fp32"}
#: On a multiprocessor of all these GPUs.
REGISTERS, MOST_WARPS, THREADS = 65536, 64, 32
CAPABILITIES = {80: "A100", 90: "H100, H200"}

_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)")
_JUMP = re.compile(r"\bBRA `\(\.(L_x_\d+)\)")


def main(*, capability: int = 90, forward: str | None = None, backward: str | None = None) -> None:
    """Compile both kernels for values of bfloat16 and float32, and count."""
    if capability not in CAPABILITIES:
        raise one_of("compute capability", capability, CAPABILITIES, "--capability")
    programs = {"forward": program("forward", forward), "backward": program("backward", backward)}
    print(f"{CAPABILITIES[capability]}, triton {triton.__version__}")
    columns = ("registers", "stack", "warps", "shared", "barriers", "adds", "instructions", "a sample")
    print(f"{'kernel':9} {'value':9} {'program':>8}", *(f"{column:>{len(column)}}" for column in columns))
    for kernel, (queries, warps) in programs.items():
        for kind in KINDS:
            found = count(kernel, kind, capability, queries, warps)
            values = (f"{found[column]:>{len(column)}}" for column in columns)
            print(f"{kernel:9} {kind:9} {f'{queries}x{warps}':>8}", *values)


def program(name: str, words: str | None) -> tuple[int, int]:
    """Queries and warps of a kernel's program, from ``32x4``; None: those it has.

    :raises InputError: it is nothing of the kind, or not of powers of two.
    """
    if words is None:
        return {"forward": _sampling_gpu.FORWARD, "backward": _sampling_gpu.BACKWARD}[name]
    found = re.fullmatch(r"(\d+)x(\d+)", words)
    numbers = [int(number) for number in found.groups()] if found else []
    if not found or any(n < 1 or n & (n - 1) for n in numbers):
        raise InputError(f"--{name} is {words!r}; it must be queries x warps, both powers of two, such as 32x4")
    return numbers[0], numbers[1]


def build(kernel: str, kind: str, capability: int, queries: int, warps: int):
    """A kernel of paper scale's sizes as Triton compiles it, ``forward`` or ``backward``."""
    value, function = KINDS[kind], {"forward": _sampling_gpu._forward, "backward": _sampling_gpu._backward}[kernel]
    sizes = {"LEVELS": LEVELS, "COUNT": POINTS, "WIDTH": WIDTH, "CHANNELS": WIDTH, "COLUMNS": WIDTH, "BLOCK": queries}
    sizes = {name: size for name, size in sizes.items() if name in function.arg_names}
    pointers = {"value": value, "shapes": "i32", "points": "fp32", "weights": "fp32"} | {
        "forward": {"out": value},
        "backward": {"grad_out": value, "grad_value": "fp32", "grad_points": "fp32", "grad_weights": "fp32"},
    }[kernel]
    signature = {name: f"*{of}" for name, of in pointers.items()}
    signature |= dict.fromkeys(("queries", "pixels", "heads"), "i32") | dict.fromkeys(sizes, "constexpr")
    aligned = {(function.arg_names.index(name),): [["tt.divisibility", 16]] for name in pointers}
    source = ASTSource(function, signature, sizes, aligned)
    options = {"enable_fp_fusion": True, "num_warps": warps}
    return triton.compile(source, target=GPUTarget("cuda", capability, THREADS), options=options)


def count(kernel: str, kind: str, capability: int, queries: int, warps: int) -> dict[str, int | str]:
    """What :func:`main` prints of one kernel."""
    made = build(kernel, kind, capability, queries, warps)
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(made.asm["cubin"])
        resources = _run("cuobjdump", "-res-usage", binary)
        code = _run("nvdisasm", "-c", binary).splitlines()
    registers, stack = (int(re.search(rf"{name}:(\d+)", resources)[1]) for name in ("REG", "STACK"))
    names = [match[1] for match in map(_INSTRUCTION.search, _loop(code)) if match and match[1] != "NOP"]
    each = -(-registers // 8) * 8 * THREADS  # registers go to warps eight a thread at a time
    return {
        "registers": registers,
        "stack": stack,
        "warps": min(MOST_WARPS, REGISTERS // each // warps * warps),
        "shared": made.metadata.shared,
        "barriers": sum(name.startswith("BAR") for name in names),
        "adds": sum(name.startswith("RED") for name in names),
        "instructions": len(names),
        "a sample": f"{len(names) * warps / (queries * POINTS):.1f}",
    }


def _run(tool: str, *words) -> str:
    found = Path(triton.__file__).parent / "backends/nvidia/bin" / tool
    done = subprocess.run([found, *words], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def _loop(code: list[str]) -> list[str]:
    """The longest loop: from a place that a jump goes back to, to the jump."""
    places = {line.strip()[1:-1]: number for number, line in enumerate(code) if re.match(r"\s*\.L_x_\d+:", line)}
    jumps = [(places[match[1]], number) for number, line in enumerate(code) if (match := _JUMP.search(line))]
    first, last = max(jumps, key=lambda jump: jump[1] - jump[0])
    return code[first : last + 1]


if __name__ == "__main__":
    cli.run(main)
