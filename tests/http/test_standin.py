"""What stands in for RE2 says what RE2 says, or refuses to say anything.

Expectations: RE2 itself where it is installed; for the rest, its documented syntax.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyproxy.http import pattern
from pyproxy.http.pattern import PatternError, Patterns
from pyproxy.http.standin import NeedsRe2Error, SyntaxProblemError, compile_pattern

PIECES = [
    *"abkKsé.^$|*+?(){}[]-/,:_1 \n\\",
    *(r"\d \D \w \W \s \S \A \z \b \B \n \t \v \a \f \. \/ \- \_ \\ \é").split(),
    *(r"\1 \0 \12 \8 \x41 \x{41} \x4 \x{110000} \Z \G \K \R \X \h \e \N \C").split(),
    *(
        r"\pN \p{Greek} \PL \Q \E \Qa*\E \Qa\E ( ) (?: (a|) () (|a) (a*)* (b|a*)+"
    ).split(),
    *"*? ** *+ ?? {2} {2,} {,2} {1,3} {0} {3}{3} {500} {1001}".split(),
    *r"[a-c] [^a] []a] [^]a] [\w-] [a\d] [a-] [-a] [z-a] [\]a] [[a] [^\n]".split(),
    *"[[:alpha:]] [[:^digit:]] [^[:space:]] [[:foo:]] [[:word:]k]".split(),
    *"(?i) (?i: (?s) (?m) (?-i) (?U) (?x) (?) (?i-) (?P<n> (?<m> (?P=n)".split(),
    *"(?= (?! (?<= (?<! (?> (?# (?(1)".split(),
]
LETTERS = "abAkK\u212asS\u017f1_- \néÉ[]{}*/.\\٣zn()\t\x0b\x00:,2"

# Beyond it: refused with a hint. What is no RE2 is refused with RE2's words.
BEYOND = [r"\B", r"\pN", r"\p{Greek}", r"[\pL]", "(?i)é", "(?i)[é]", "a(?i)*"]
WRONG = {
    "(": "missing closing )",
    ")": "unexpected )",
    "[": "missing closing ]",
    "[z-a]": "invalid character class range",
    "[[:foo:]]": "invalid character class range",
    "*": "missing argument to repetition operator",
    "a**": "invalid nested repetition operator",
    "a*+": "invalid nested repetition operator",
    "a{2}{2}": "invalid nested repetition operator",
    "a{1001}": "invalid repeat count",
    "(a{500}){3}": "invalid repeat count",
    "a{3,2}": "invalid repeat count",
    "(?=a)": "invalid or unsupported Perl syntax",
    "(?!a)": "invalid or unsupported Perl syntax",
    "(?>a)": "invalid or unsupported Perl syntax",
    "(?#a)": "invalid or unsupported Perl syntax",
    "(?x)": "invalid or unsupported Perl syntax",
    "(?<=a)": "invalid named capture",
    "(?P=n)": "invalid or unsupported Perl syntax",
    r"(a)\1": "invalid escape sequence",
    r"\8": "invalid escape sequence",
    r"\Z": "invalid escape sequence",
    r"\é": "invalid escape sequence",
    "\\": "trailing backslash at end of expression",
}


def theirs(text: str) -> Any:
    """Return RE2's search; None = it refuses the pattern."""
    re2 = pytest.importorskip("re2", reason="RE2 has no wheel here")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options).search
    except re2.error:
        return None


@settings(max_examples=3000, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join),
    st.lists(st.text(LETTERS, max_size=6), min_size=1, max_size=6),
)
def test_standin_finds_what_re2_finds_or_refuses(text: str, where: list[str]) -> None:
    search = theirs(text)
    try:
        ours = compile_pattern(text)
    except SyntaxProblemError:
        assert search is None
        return
    except NeedsRe2Error:
        return
    assert search is not None
    for each in where:
        assert bool(ours(each)) is bool(search(each)), (text, each)


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_pattern_is_refused_in_gos_words(text: str) -> None:
    with pytest.raises(SyntaxProblemError) as caught:
        compile_pattern(text)
    assert str(caught.value) == WRONG[text]
    assert theirs(text) is None


@pytest.mark.parametrize("text", BEYOND)
def test_what_cannot_be_said_exactly_is_refused_with_a_hint(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pattern, "RE2", None)
    with pytest.raises(PatternError, match="install google-re2") as caught:
        Patterns(text)
    assert caught.value.exit_code == 255
    assert theirs(text) is not None


@pytest.mark.parametrize("code", [*range(0x80), 0xA0, 0x17F, 0x212A, 0x663, 0x1F600])
def test_classes_hold_the_same_characters(code: int) -> None:
    names = "alnum alpha ascii blank cntrl digit graph lower print punct space upper"
    classes = [f"[[:{name}:]]" for name in f"{names} word xdigit".split()]
    for text in (*classes, r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", ".", "(?i)[a-z]"):
        found = theirs(text)
        assert bool(compile_pattern(text)(chr(code))) is bool(found(chr(code))), text


def test_pattern_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(NeedsRe2Error):
        compile_pattern("(" * 5000 + ")" * 5000)
