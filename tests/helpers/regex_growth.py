"""Find regular expressions that may take more than linear time, from how they are built and without running them.

A pattern becomes the automaton of its positions (Glushkov). Matching by backtracking is superlinear where a word leads
a loop back to itself and, from an earlier loop or from a start further left, to the same place: then a text of that
word, again and again, is read from each of many places, and what fails fails each time. It is exponential where the
word leads around one loop in two ways (Weideman et al. 2016, "Analyzing matching time behavior of backtracking
regular expression matchers"). What follows one character or looks at one is followed exactly, lookarounds of more
characters are passed over: what is found may be harmless, what is not found is not there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cached_property

try:
    from re import _constants as kinds
    from re import _parser as parser
except ImportError:  # Python 3.10
    import sre_constants as kinds
    import sre_parse as parser

CHARACTERS = "azAZ_059 \t\n!$,.-+*/=(){}[]<>\\^|'`:%\"é中第٣²\u0301"
ONE_CHARACTER = (kinds.LITERAL, kinds.NOT_LITERAL, kinds.ANY, kinds.IN)
LONGEST_COUNT = 30
"""A count of more is taken for no bound."""
ANYWHERE = -1
"""Stands for the search that has not begun to match."""


class Automaton:
    """Positions of a pattern, and which may follow which."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        tree = parser.parse(pattern, flags)
        self.flags = flags | tree.state.flags
        self.positions: list = []
        self.groups: dict = {}
        self.looks: dict = {}
        self.follow = defaultdict(list)
        self.first, self.last, _ = self._sequence(list(tree))
        self.alphabet = self._alphabet(set(CHARACTERS) | set(_characters_of(tree)))
        self.holds = [
            {character for character in self.alphabet if self.fits(character, node)} for node in self.positions
        ]

    def _alphabet(self, characters: set[str]) -> list[str]:
        """One character of each class that the pattern tells apart."""
        nodes = [*self.positions, *self.looks.values()]
        found = {}
        for character in sorted(characters):
            signature = (*(self.fits(character, node) for node in nodes), character == "\n", _is_word(character))
            found.setdefault(signature, character)
        return list(found.values())

    def fits(self, character: str, node) -> bool:
        """Whether a character is one that a node stands for."""
        kind, value = node
        if kind is kinds.ANY:
            return character != "\n" or bool(self.flags & re.DOTALL)
        if kind is kinds.LITERAL:
            return value in self._codes(character)
        if kind is kinds.NOT_LITERAL:
            return value not in self._codes(character)
        negated = value[0][0] is kinds.NEGATE
        return any(self._in(character, *item) for item in value[negated:]) != negated

    def _codes(self, character: str) -> set[int]:
        cases = {character, character.lower(), character.upper()} if self.flags & re.IGNORECASE else {character}
        return {ord(case) for case in cases if len(case) == 1}

    def _in(self, character: str, kind, value) -> bool:
        if kind is kinds.LITERAL:
            return value in self._codes(character)
        if kind is kinds.RANGE:
            return any(value[0] <= code <= value[1] for code in self._codes(character))
        name = str(value).lower().removeprefix("category_")
        letter = {"digit": "d", "space": "s", "word": "w"}[name.removeprefix("not_")]
        return bool(re.match(rf"\{letter.upper() if name.startswith('not_') else letter}", character))

    def _sequence(self, nodes):
        """Where it may begin and end, and the conditions on which it may be empty, one for each way to be that."""
        return self._chain([self._node(node) for node in nodes])

    def _chain(self, parts):
        first, last, empty = [], [], [()]
        for begin, end, nothing in parts:
            self._join(last, begin)
            first = first + [(place, before + guards) for before in empty for place, guards in begin]
            last = end + [(place, guards + after) for place, guards in last for after in nothing]
            empty = [before + after for before in empty for after in nothing]
        return first, last, empty

    def _join(self, last, first) -> None:
        for place, guards in last:
            self.follow[place] += [(following, guards + more) for following, more in first]

    def _node(self, node):
        kind, value = node
        if kind in ONE_CHARACTER:
            self.positions.append(node)
            place = [(len(self.positions) - 1, ())]
            return place, place, []
        if kind is kinds.BRANCH:
            parts = [self._sequence(list(branch)) for branch in value[1]]
            return tuple([entry for part in parts for entry in part[side]] for side in range(3))
        if kind is kinds.SUBPATTERN:
            self.groups[value[0]] = value[3]
            return self._sequence(list(value[3]))
        if kind is kinds.GROUPREF:
            return self._sequence(list(self.groups[value]))
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
            return self._repeat(*value)
        if kind is kinds.AT:
            return [], [], [(("at", str(value)),)]
        if kind in (kinds.ASSERT, kinds.ASSERT_NOT):
            direction, inside = value
            if len(inside) != 1 or inside[0][0] not in ONE_CHARACTER:
                return [], [], [(("unknown",),)]
            self.looks[repr(inside[0])] = inside[0]
            return [], [], [((direction, kind is kinds.ASSERT, repr(inside[0])),)]
        raise NotImplementedError(kind)

    def _repeat(self, least: int, most: int, body):
        def made():
            return self._sequence(list(body))

        if most > LONGEST_COUNT:
            loop = made()
            self._join(loop[1], loop[0])
            before = [made() for _ in range(min(least, LONGEST_COUNT) - 1)]
            return self._chain([*before, loop if least else (*loop[:2], [()])])
        optional = [(*made()[:2], [()]) for _ in range(most - least)]
        return self._chain([*(made() for _ in range(least)), *optional])

    def step(self, place: int, before: str | None, character: str) -> list[int]:
        """Positions after one that read a character; one that is there twice was reached in two ways."""
        edges = self.first if place == ANYWHERE else self.follow[place]
        return [
            following
            for following, guards in edges
            if character in self.holds[following] and all(self._allows(g, before, character) for g in guards)
        ]

    def _allows(self, guard, before: str | None, after: str | None) -> bool:
        if guard[0] == "unknown":
            return True
        if guard[0] == "at":
            return self._is_at(guard[1], before, after)
        direction, wanted, name = guard
        character = before if direction < 0 else after
        return (character is not None and self.fits(character, self.looks[name])) == wanted

    def _is_at(self, name: str, before: str | None, after: str | None) -> bool:
        lines = self.flags & re.MULTILINE
        if name.startswith("AT_BEGINNING"):
            return before is None or bool(lines and name == "AT_BEGINNING" and before == "\n")
        if name.startswith("AT_END"):
            return after is None or bool(lines and after == "\n")
        return (_is_word(before) != _is_word(after)) == (name == "AT_BOUNDARY")

    @cached_property
    def ends(self) -> set[int]:
        """Positions at which a match is sure, whatever follows."""
        return {place for place, guards in self.last if not guards}

    @cached_property
    def loops(self) -> dict[int, set[int]]:
        """Of each position that can come again, all that lie on its way."""
        reached = {}
        for start in range(len(self.positions)):
            found, waiting = set(), [start]
            while waiting:
                new = {following for following, _ in self.follow[waiting.pop()]} - found
                found |= new
                waiting += new
            reached[start] = found
        return {
            place: {other for other in ways if place in reached[other]}
            for place, ways in reached.items()
            if place in ways
        }

    def after(self, places: frozenset[int], before: str, character: str) -> frozenset[int]:
        """All positions that are reached from some."""
        return frozenset(following for place in places for following in self.step(place, before, character))


def growth(pattern: str, flags: int = 0, *, whole: bool = False) -> str | None:
    """What makes a pattern superlinear, or None.

    Args:
        pattern: The pattern.
        flags: Its flags.
        whole: It is matched with a text's whole alone (``fullmatch``); elsewhere it is searched for.
    """
    automaton = Automaton(pattern, flags)
    ends = set() if whole else automaton.ends
    for loop in automaton.loops:
        if word := _two_ways(automaton, loop, ends):
            return f"exponential: {word!r} again and again"
    for loop in automaton.loops:
        for start in [*([] if whole else [ANYWHERE]), *automaton.loops]:
            if loop not in automaton.loops.get(start, ()) and (word := _two_places(automaton, start, loop, ends)):
                return f"polynomial: {word!r} again and again"
    return None


def _two_ways(automaton: Automaton, loop: int, ends: set[int]) -> str | None:
    """A word that leads from a position to itself in two ways, and to no sure match."""
    waiting = [(character, loop, loop, False, frozenset({loop}), "") for character in automaton.holds[loop]]
    seen = set()
    while waiting:
        before, one, other, differ, places, word = waiting.pop()
        for character in automaton.alphabet:
            all_places = automaton.after(places, before, character)
            if all_places & ends:
                continue
            firsts, seconds = (
                [p for p in automaton.step(place, before, character) if p in automaton.loops[loop]]
                for place in (one, other)
            )
            for i, first in enumerate(firsts):
                for j, second in enumerate(seconds):
                    apart = differ or first != second or (one == other and i != j)
                    if apart and first == second == loop:
                        return word + character
                    if (state := (character, first, second, apart, all_places)) not in seen:
                        seen.add(state)
                        waiting.append((*state, word + character))
    return None


def _two_places(automaton: Automaton, start: int, loop: int, ends: set[int]) -> str | None:
    """A word that leads from a place to itself and to a loop, and from the loop to itself, and to no sure match."""
    begun = None if start == ANYWHERE else frozenset({start})
    waiting = [(character, begun, frozenset({loop}), "") for character in automaton.holds[loop]]
    seen = set()
    while waiting:
        before, here, there, word = waiting.pop()
        for character in automaton.alphabet:
            later = automaton.after(there, before, character)
            if later & ends or not later & automaton.loops[loop]:
                continue
            if here is None:
                choices = [None, frozenset(automaton.step(ANYWHERE, before, character))]
            else:
                choices = [automaton.after(here, before, character)]
            for choice in choices:
                if choice is not None and not choice:
                    continue
                comes_back = start == ANYWHERE or start in (choice or ())
                if choice and loop in choice and loop in later and comes_back:
                    return word + character
                if (state := (character, choice, later)) not in seen:
                    seen.add(state)
                    waiting.append((*state, word + character))
    return None


def _characters_of(node):
    """Characters that a parse tree names, and the ends of its ranges."""
    if isinstance(node, tuple) and len(node) == 2 and node[0] in (kinds.LITERAL, kinds.NOT_LITERAL):
        yield chr(node[1])
    elif isinstance(node, tuple) and len(node) == 2 and node[0] is kinds.RANGE:
        yield from map(chr, node[1])
    elif isinstance(node, (tuple, list, parser.SubPattern)):
        for part in node:
            yield from _characters_of(part)


def _is_word(character: str | None) -> bool:
    return character is not None and re.match(r"\w", character) is not None
