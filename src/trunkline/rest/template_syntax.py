"""Which part of the minijinja language a result template may use: what cannot grow values or hide time.

The engine itself bounds neither memory nor the time of one operation, and running out of memory ends the process.
So everything that multiplies is refused here, before the engine sees the text, and a call of `METER` is planted
after each statement, so that every turn of a loop passes by the meter (see `jinja_template`).
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

METER = "__meter__"
MAX_TAG = 500
MAX_JOINS = 8
MAX_FILTERS = 10
MAX_SETS = 16
MAX_LOOPS_DEEP = 8

_STATEMENTS = frozenset({"for", "endfor", "if", "elif", "else", "endif", "set", "break", "continue"})
_OPERATORS = frozenset({"and", "or", "not", "in", "is", "if", "else", "elif"})
_CONSTANTS = frozenset({"true", "false", "none", "True", "False", "None"})
_OPENER = re.compile(r"\{[{%#]")
_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<close>[-+]?(?:%\}|\}\}))
  | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
  | (?P<number>[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>//|==|!=|<=|>=|[-+/%~|.,:=<>()\[\]])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


_NOTHING = _Token("", "")


def guard(source: str, filters: Collection[str]) -> str:
    """Return the source with the meter planted; raise ValueError, with the line, for what it may not use."""
    out: list[str] = []
    grammar = _Grammar(filters)
    position = 0
    while (opener := _OPENER.search(source, position)) is not None:
        try:
            end, planted = _read_tag(source, opener, grammar)
        except ValueError as problem:
            line = source.count("\n", 0, opener.start()) + 1
            raise ValueError(f"line {line}: {problem}") from None
        out += [source[position:end], planted]
        position = end
    return "".join(out) + source[position:]


def _read_tag(source: str, opener: re.Match[str], grammar: "_Grammar") -> tuple[int, str]:
    """Check the tag that begins here; return where it ends, and what to plant there."""
    if opener[0] == "{#":
        end = source.find("#}", opener.end())
        if end < 0:
            raise ValueError("a comment is not closed")
        return end + 2, ""
    tokens, end, close = _tokens(source, opener.end(), "}}" if opener[0] == "{{" else "%}")
    if opener[0] == "{{":
        grammar.output(tokens)
        return end, ""
    grammar.statement(tokens)
    return end, f"{{{{ {METER}() {'-' if close[0] == '-' else ''}}}}}"


def _tokens(source: str, start: int, closer: str) -> tuple[list[_Token], int, str]:
    """Split a tag into tokens; return them, where the tag ends, and how it is closed."""
    tokens: list[_Token] = []
    position = start + (source[start : start + 1] in {"-", "+"})
    while (match := _TOKEN.match(source, position)) is not None and match.end() <= start + MAX_TAG:
        position = match.end()
        if match.lastgroup == "close":
            if not match[0].endswith(closer):
                break
            return tokens, position, match[0]
        if match.lastgroup != "space":
            tokens.append(_Token(str(match.lastgroup), match[0]))
    if match is not None and match.end() > start + MAX_TAG:
        raise ValueError(f"a tag has at most {MAX_TAG} characters")
    shown = source[position : position + 1]
    raise ValueError(f"{shown!r} cannot be used here" if shown else "a tag is not closed")


class _Grammar:
    """What the tags of one template may hold."""

    def __init__(self, filters: Collection[str]) -> None:
        self._filters = filters
        self._sets = 0
        self._loops = 0

    def output(self, tokens: list[_Token]) -> None:
        """Check what stands in `{{ … }}`."""
        _Expression(tokens, self._filters).check(joins=True)

    def statement(self, tokens: list[_Token]) -> None:
        """Check what stands in `{% … %}`."""
        word = tokens[0].text if tokens else ""
        if word not in _STATEMENTS:
            raise ValueError(f"'{word}' is no statement here; there are for, if and set")
        self._loops += (word == "for") - (word == "endfor")
        self._sets += word == "set"
        if self._loops > MAX_LOOPS_DEEP or self._sets > MAX_SETS:
            raise ValueError(f"at most {MAX_LOOPS_DEEP} loops in each other and {MAX_SETS} times set")
        rest = tokens[1:]
        if word == "for":
            rest = _loop_source(rest)
            if any(token.text == "if" for token in rest):
                raise ValueError("for takes no if: put {% if … %} inside the loop")
        elif word == "set":
            if [token.kind for token in rest[:1]] != ["name"] or [token.text for token in rest[1:2]] != ["="]:
                raise ValueError("set is written {% set name = value %}")
            rest = rest[2:]
        _Expression(rest, self._filters).check(joins=word in {"if", "elif"})


def _loop_source(tokens: list[_Token]) -> list[_Token]:
    """Return what stands after `for a, b in`."""
    for number, token in enumerate(tokens):
        if token.text == "in":
            return tokens[number + 1 :]
        if token.kind != "name" and token.text not in {",", "(", ")"}:
            break
    raise ValueError("for is written {% for name in value %}")


class _Expression:
    """One expression, token by token, with the brackets that are open."""

    def __init__(self, tokens: list[_Token], filters: Collection[str]) -> None:
        self._tokens = tokens
        self._filters = filters
        self._brackets: list[str] = []

    def check(self, *, joins: bool) -> None:
        """Raise ValueError for what could grow a value, call something, or loop out of sight."""
        texts = [token.text for token in self._tokens if token.kind == "sign"]
        joined = texts.count("+") + texts.count("~")
        if joined and not joins:
            raise ValueError("+ and ~ are for {{ … }} and {% if … %}")
        if joined > MAX_JOINS or texts.count("|") > MAX_FILTERS:
            raise ValueError(f"a tag has at most {MAX_JOINS} times + or ~ and {MAX_FILTERS} filters")
        for at, token in enumerate(self._tokens):
            if token.kind == "name":
                self._name(at, token.text)
            elif token.kind == "sign":
                self._sign(at, token.text)

    def _before(self, at: int, steps: int = 1) -> _Token:
        return self._tokens[at - steps] if at >= steps else _NOTHING

    def _operator(self, at: int) -> bool:
        """Whether the token before is a word such as `in`, after which a value begins."""
        return self._before(at).text in _OPERATORS and self._before(at, 2).text != "."

    def _name(self, at: int, name: str) -> None:
        if self._before(at).text == "|" and name not in self._filters:
            raise ValueError(f"there is no filter '{name}'")
        if name in {METER, "recursive"}:
            raise ValueError(f"'{name}' cannot be used here")
        if "list" in self._brackets and name not in _CONSTANTS:
            raise ValueError("a list in brackets holds constants only")

    def _sign(self, at: int, sign: str) -> None:
        if "list" in self._brackets and sign not in {",", "-", "[", "]"}:
            raise ValueError("a list in brackets holds constants only")
        if sign in {"(", "["}:
            self._brackets.append(self._call(at) if sign == "(" else self._square(at))
        elif sign in {")", "]"}:
            if not self._brackets or (self._brackets.pop() in {"list", "index"}) != (sign == "]"):
                raise ValueError(f"'{sign}' closes nothing")
        elif sign == "," and self._brackets[-1:] not in (["call"], ["list"]):
            raise ValueError("a comma is for filter arguments and lists of constants")
        elif sign == ":" and self._brackets[-1:] != ["index"]:
            raise ValueError("a colon is for slices such as name[:80]")

    def _square(self, at: int) -> str:
        value = self._before(at)
        indexed = value.kind in {"name", "text", "number"} or value.text in {")", "]"}
        return "index" if indexed and not self._operator(at) else "list"

    def _call(self, at: int) -> str:
        value, before = self._before(at), self._before(at, 2)
        if self._operator(at) or (value.kind in {"", "sign"} and value.text not in {")", "]"}):
            return "group"
        tested = before.text == "is" or (before.text == "not" and self._before(at, 3).text == "is")
        if value.kind == "name" and (before.text == "|" or tested):
            return "call"
        if value.text == "range" and before.text != ".":
            return "call"
        raise ValueError("only filters, tests and range() take arguments")
