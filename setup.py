"""The compiled kernels: the same sources for three instruction sets, chosen when the library is loaded.

Each is optional: without a compiler the installation succeeds and the batched torch versions serve. All else is in
pyproject.toml.
"""

from glob import glob

from setuptools import Extension, setup

# `-ffp-contract=off` keeps sums bit-equal on all instruction sets
FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wno-psabi",
]
INSTRUCTION_SETS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}

setup(
    ext_modules=[
        Extension(
            f"solverlayers.solvers.kernels._{name}",
            sources=sorted(glob("solvers/kernels/*.cpp")),
            depends=sorted(glob("solvers/kernels/*.hpp")),
            extra_compile_args=FLAGS + flags,
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
        for name, flags in INSTRUCTION_SETS.items()
    ]
)
