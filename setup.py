"""Build of the Cython core; everything else about the package is in pyproject.toml.

FASTPATH_DEBUG=1     -O0 -g, invariant checks (macro FASTPATH_DEBUG), annotate HTML
FASTPATH_SANITIZE=1  address and undefined-behaviour sanitizers on top of that
FASTPATH_COVERAGE=1  gcov counts the lines of `.pyx` files that ran
FASTPATH_INPLACE=1   it was built in place already: an editable install, which would
                     compile it all once more, only has to point there
"""

import os
import sysconfig
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Distribution, Extension, setup

DEBUG = os.environ.get("FASTPATH_DEBUG") == "1"
SANITIZE = os.environ.get("FASTPATH_SANITIZE") == "1"
COVERAGE = os.environ.get("FASTPATH_COVERAGE") == "1"
INPLACE = os.environ.get("FASTPATH_INPLACE") == "1"

# What calls OpenSSL itself. Others call these, and need not be linked with it.
WITH_OPENSSL = "fastpath/tls/"
WITH_ZLIB = "fastpath/http/coding.pyx"

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
    "freethreading_compatible": True,
}


def flags() -> tuple[list[str], list[str]]:
    """Compiler and linker flags of the chosen build."""
    compile_args = ["-std=gnu11", "-Wall", "-Wno-unused-function", "-fno-plt"]
    # Pythons of distributions bring this one along, others do not: all or none.
    compile_args += ["-Werror=format-security"]
    link_args: list[str] = []
    if SANITIZE:
        sanitizers = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
        compile_args += ["-O1", "-g", *sanitizers]
        link_args += sanitizers
    elif COVERAGE:
        compile_args += ["-O0", "--coverage", "-fprofile-update=atomic"]
        link_args += ["--coverage"]
    elif DEBUG:
        compile_args += ["-O0", "-g"]
    else:
        compile_args += ["-O3"]
    if DEBUG or SANITIZE:
        compile_args += ["-DFASTPATH_DEBUG=1"]
    return compile_args, link_args


def libraries(path: str) -> list[str]:
    """What a module is linked with."""
    if path.startswith(WITH_OPENSSL):
        return ["ssl", "crypto"]
    return ["z"] if path == WITH_ZLIB else []


def extensions() -> list[Extension]:
    """One extension per `.pyx`: a wall that the linker keeps, too."""
    compile_args, link_args = flags()
    return [
        Extension(
            ".".join(path.with_suffix("").parts),
            [str(path)],
            libraries=libraries(str(path)),
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
        for path in sorted(Path("fastpath").rglob("*.pyx"))
    ]


def has_re2() -> bool:
    """Whether google-re2 has a wheel for what this is built for; markers cannot say."""
    is_musl = "musl" in str(sysconfig.get_config_var("SOABI"))
    return not is_musl and not sysconfig.get_config_var("Py_GIL_DISABLED")


class PyproxyDistribution(Distribution):
    """What pyproject.toml says, less a dependency that could not be installed here."""

    def parse_config_files(self, *arguments: Any, **options: Any) -> None:
        """Read pyproject.toml."""
        super().parse_config_files(*arguments, **options)
        if not has_re2():
            kept = [r for r in self.install_requires if not r.startswith("google-re2")]
            self.install_requires = self.metadata.install_requires = kept


if __name__ == "__main__":  # its helpers import this file since Python 3.14
    setup(
        distclass=PyproxyDistribution,
        ext_modules=[]
        if INPLACE
        else cythonize(
            extensions(),
            compiler_directives=DIRECTIVES,
            annotate=DEBUG,
            emit_linenums=COVERAGE,  # gcov speaks of the lines of our sources then
            nthreads=os.cpu_count() or 1,
            show_all_warnings=False,
        ),
    )
