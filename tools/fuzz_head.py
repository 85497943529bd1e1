"""Fuzz the parser of heads, guided by coverage of its C code: `make fuzz-heads`.

Runs in build/fuzz, where the core is compiled with coverage and the address sanitizer.
Inputs that begin with "HTTP/" are responses, all others requests. What we accept must
be read alike by llhttp and h11 (tests/support/head_oracles.py), and must be accepted a
byte at a time, too. Seeds are the tables of the tests; inputs that found something new
stay in build/fuzz/corpus, one that failed in build/fuzz/crash-*.
"""

import hashlib
import importlib
import sys
from pathlib import Path

from fastpath.http1.head import (
    HeadError,
    RequestHead,
    ResponseHead,
    parse_request,
    parse_response,
)
from tests.core.http1 import test_chunks, test_refused, test_responses
from tests.support.head_grammar import KNOWN, ODDITIES
from tests.support.head_oracles import agree
from tests.support.heads import request

CORPUS = Path("corpus")
DICTIONARY = Path("dictionary")


def outcome(data: bytes, seen: int) -> RequestHead | ResponseHead | str | None:
    """What became of the head of `data`, of which `seen` bytes came earlier."""
    try:
        if data.startswith(b"HTTP/"):
            return parse_response(data, False, seen)
        return parse_request(data, seen)
    except HeadError as error:
        return error.fault


def fuzz_one(data: bytes) -> None:
    """Compare with others, and with ourselves when it comes in pieces."""
    agree(data, request=not data.startswith(b"HTTP/"))
    whole = outcome(data + b"\r\n", 0)
    pieces, seen = None, 0
    for size in range(5, len(data) + 1, 1 + len(data) // 16):
        pieces = pieces or outcome(data[:size], seen)
        seen = size
    assert (pieces or outcome(data + b"\r\n", seen)) == whole


def sow() -> None:
    """Write the seeds and the words that are worth trying."""
    chunked = request(b"Transfer-Encoding: chunked")
    bodies = [*test_chunks.BODIES.values()]
    bodies += [data for _, data in test_chunks.REFUSED.values()]
    seeds = [*test_refused.SAMPLES, *test_responses.SAMPLES]
    seeds += [chunked + body for body in bodies if len(body) < 1000]
    CORPUS.mkdir(exist_ok=True)
    for seed in seeds:
        (CORPUS / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    words = ["".join(f"\\x{byte:02x}" for byte in word) for word in ODDITIES + KNOWN]
    DICTIONARY.write_text("".join(f'"{word}"\n' for word in words))


def main() -> None:
    """Run until something is found, or the time given by -max_total_time is over."""
    # By name: not everybody who checks the types here has it installed.
    atheris = importlib.import_module("atheris")
    sow()
    atheris.Setup([*sys.argv, f"-dict={DICTIONARY}", str(CORPUS)], fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
