"""What the two weighting syntaxes make of a text, and that no text can harm them."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.weighting import WEIGHT_LIMIT, WEIGHTINGS, parse, without_syntax

#: Texts dense in what the parsers look for.
TEXTS = st.text(st.sampled_from("ab ()[]\\:.123-+,\n"), max_size=60) | st.text(max_size=60)
SYNTAX = set("()[]\\:.0123456789-+ \n")

OCTOAI = {
    "a cat": [("a cat", 1)],
    "(A tall (beautiful:1.5) woman:1.0) (some other prompt with weight:0.8)": [
        ("A tall ", 1), ("beautiful", 1.5), (" woman", 1), (" ", 1), ("some other prompt with weight", 0.8),
    ],
    "(a (b:1.5) c:2.0)": [("a ", 2), ("b", 3), (" c", 2)],
    "((a:2):3)": [("a", 6)],
    "(x)": [("x", 1)],
    "((x)) y": [("x", 1), (" y", 1)],
    "(a:1)(b:.5)(c:1.25)(d:2.)(e:+1.5)(f:-1)(g:0)": [
        ("a", 1), ("b", 0.5), ("c", 1.25), ("d", 2), ("e", 1.5), ("f", -1), ("g", 0),
    ],
    "(a : 1.5 )": [("a ", 1.5)],
    "(a:b:1.5)": [("a:b", 1.5)],
    "(a:)": [("a:", 1)],
    "(a:.)": [("a:.", 1)],
    "(a:1.2.3)": [("a:1.2.3", 1)],
    "(a:1e3)": [("a:1e3", 1)],
    "(a:٣)": [("a:٣", 1)],
    "at 12:30 (noon:2)": [("at 12:30 ", 1), ("noon", 2)],
    "a (b": [("a (b", 1)],
    "a:1.5) b": [("a:1.5) b", 1)],
    "((a:2)": [("(", 1), ("a", 2)],
    "(a:2))": [("a", 2), (")", 1)],
    ":( :) :(": [(":", 1), (" :", 1), (" :(", 1)],
    r"\(a:2)": [("\\", 1), ("a", 2)],
    "[a] [b:2]": [("[a] [b:2]", 1)],
    "()": [],
    "(:2)": [],
    "": [],
}  # fmt: skip

#: The first six stand in A1111's own documentation of its parser; there, the sixth is one word.
A1111 = {
    "normal text": [("normal text", 1)],
    "an (important) word": [("an ", 1), ("important", 1.1), (" word", 1)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1), ("house", 1.573), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
        ("sky", 1.4641), (".", 1.1),
    ],
    "(unnecessary)(parens)": [("unnecessary", 1.1), ("parens", 1.1)],
    "((ugly)), [[calm]]": [("ugly", 1.21), (", ", 1), ("calm", 1 / 1.21)],
    "(a:1.3) b": [("a", 1.3), (" b", 1)],
    r"a \(b:1.5\)": [("a (b:1.5)", 1)],
    r"(\(a\):1.5)": [("(a)", 1.5)],
    r"\\(a)": [("\\", 1), ("a", 1.1)],
    r"c:\d": [(r"c:\d", 1)],
    "[a:1.3]": [("a:1.3", 1 / 1.1)],
    "[a:b:0.5] [c|d]": [("a:b:0.5", 1 / 1.1), (" ", 1), ("c|d", 1 / 1.1)],
    "a) b] c:1.2)": [("a) b] c:1.2)", 1)],
    "(a [b) c] d": [("a ", 1.1), ("b", 1), (" c", 1 / 1.1), (" d", 1)],
    "a BREAK b AND <lora:c:1>": [("a BREAK b AND <lora:c:1>", 1)],
    "([()])": [],
}  # fmt: skip


def check(text, weighting, expected):
    found = parse(text, weighting)
    assert [fragment.text for fragment in found] == [piece for piece, _ in expected]
    assert [fragment.weight for fragment in found] == pytest.approx([weight for _, weight in expected])


@pytest.mark.parametrize("text", OCTOAI)
def test_octoai(text):
    check(text, "octoai", OCTOAI[text])


@pytest.mark.parametrize("text", A1111)
def test_a1111(text):
    check(text, "a1111", A1111[text])


@given(TEXTS)
def test_without_weighting_the_text_comes_back(text):
    assert parse(text, "none") == [(text, 1.0)]


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@given(text=TEXTS)
def test_any_text_keeps_its_characters_and_gets_finite_weights(weighting, text):
    fragments = parse(text, weighting)
    kept = "".join(fragment.text for fragment in fragments)
    every = iter(text)

    assert all(character in every for character in kept)  # in the text's order
    assert [c for c in kept if c not in SYNTAX] == [c for c in text if c not in SYNTAX]
    assert all(math.isfinite(weight) and abs(weight) <= WEIGHT_LIMIT for _, weight in fragments)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@given(text=st.text(st.characters(exclude_characters="()[]\\"), min_size=1))
def test_a_text_without_brackets_is_one_fragment(weighting, text):
    assert parse(text, weighting) == [(text, 1.0)]


@given(st.recursive(st.just("x"), lambda inner: st.lists(inner, min_size=1, max_size=3)), st.data())
def test_a_weight_is_the_product_of_the_brackets_round_it(tree, data):
    factors = st.sampled_from((0.5, 1.5, 2.0, -1.0))
    expected = []

    def write(node, weight):
        if node == "x":
            expected.append(max(-WEIGHT_LIMIT, min(WEIGHT_LIMIT, weight)))
            return "x"
        factor = data.draw(factors)
        return f"({','.join(write(child, weight * factor) for child in node)}:{factor})"

    text = write(tree, 1.0)
    for weighting in ("octoai", "a1111"):
        found = [weight for piece, weight in parse(text, weighting) for _ in range(piece.count("x"))]
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize(
    "unit",
    ["(", ")", "[", "]", "\\", "(a", "([", ")]", ":", ":1", ":1.", ": ", "(:9", ":1)", "(x:2)", "[(", "1", " "],
)
def test_hostile_texts_take_linear_time(weighting, unit):
    def cost(count):
        texts = (unit * count, "(:" + unit * count, "(" * (count // 2) + unit + ":2)" * (count // 2))
        return sum(lines_run(lambda text=text: parse(text, weighting)) for text in texts)

    # Four times the text is four times the work, not sixteen times.
    assert cost(1200) < 6 * cost(300)


def lines_run(work):
    """Count the lines of Python that the work runs: unlike its time, that is the same on a busy machine."""
    count = 0

    def trace(_frame, event, _argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def test_weights_stay_within_their_limit():
    assert parse("(x:" + "9" * 5000 + ")", "octoai") == [("x", WEIGHT_LIMIT)]
    assert parse("(" * 5000 + "x", "a1111") == [("x", WEIGHT_LIMIT)]
    assert parse("(" * 5000 + "x:0)", "a1111") == [("x", 0)]
    (fragment,) = parse("[" * 10_000 + "x", "a1111")
    assert fragment.weight == pytest.approx(0)


def test_words_alone():
    assert without_syntax("(a:1.2)(b) [c]", "octoai").split() == ["a", "b", "[c]"]
    assert without_syntax("(a:1.2)(b) [c]", "a1111").split() == ["a", "b", "c"]
    assert without_syntax("(a:1.2)", "none") == "(a:1.2)"


def test_an_unknown_syntax_is_a_mistake_of_ours():
    with pytest.raises(KeyError):
        parse("a", "compel")
