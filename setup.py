"""The compiled kernels: the same sources for three instruction sets, chosen when the library is loaded.

Each is optional: without a compiler the installation succeeds and the batched torch versions serve. All else is in
pyproject.toml.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

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


class ParallelBuild(build_ext):
    """Compiles the sources of an extension side by side; setuptools takes one after the other."""

    def build_extension(self, ext: Extension) -> None:
        def compiled(source: str) -> list[str]:
            return self.compiler.compile([source], output_dir=self.build_temp, extra_postargs=ext.extra_compile_args)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [file for files in pool.map(compiled, ext.sources) for file in files]
        sources, ext.sources, ext.extra_objects = ext.sources, [], objects
        self.force = True  # what it would compare with the library are the sources
        super().build_extension(ext)
        ext.sources, ext.extra_objects = sources, []


setup(
    cmdclass={"build_ext": ParallelBuild},
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
    ],
)
