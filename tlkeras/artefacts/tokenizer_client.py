"""Text to token ids as the model was trained with them, by Python's standard library alone (3.9 or newer).

    python tokenizer.py "some text" ["a second text"]        prints what the network takes, as JSON

    from tokenizer import Tokenizer
    Tokenizer("tokenizer.json").encode("some text")          {"token_ids": [...], "padding_mask": [...]}

This file and tokenizer.json are all it takes. Ids are those of the TensorFlow graph: where tokenizer.json has "words",
words are cut as transformers does (U+FDD0 vanishes, a text of bytes ends at its first NUL), else as keras-hub does, with
its oddities: a text ends at its first NUL (SentencePiece's does not); a special token spelled out in a text becomes that
token if tokenizer.json lists it under "special" (empty the list to read it as text). Of byte-level vocabularies: the
words that keras-hub stands in for special tokens (U+0134 and a letter, A for the first) become them too; the digit
U+096C by itself vanishes, because it marks borders; a byte that the vocabulary lacks has the id -1.

Ids can differ for characters newer than the Unicode tables of this Python (`unicodedata.unidata_version`) or of the
TensorFlow that trained the model (15.0, case 16.0): letters of historic scripts and the rarest ideographs.
"""

import base64
import heapq
import json
import re
import struct
import sys
from array import array
from pathlib import Path
from unicodedata import category, normalize


class Tokenizer:
    """Turns text into what the network takes, by the facts of a tokenizer.json."""

    def __init__(self, path):
        self.facts = json.loads(Path(path).read_text("utf-8"))
        schema, kind = self.facts.get("schema"), self.facts.get("kind")
        kinds = {"wordpiece": WordPiece, "byte-bpe": BytePairs, "sentencepiece": SentencePiece}
        if schema != 1 or kind not in kinds:
            raise ValueError(f"{path} must be of schema 1 and kind {' or '.join(kinds)}. It is of {schema} and {kind}.")
        self.model = kinds[kind](self.facts)

    def ids(self, text):
        """The ids of a text alone, no special tokens around it."""
        return [i for word in self.model.words(text) for i in self.model.ids(word)]

    def encode(self, text, pair=None, length=None):
        """One example, as the network takes it: token_ids, padding_mask (0: padding), segment_ids (1: the second text).

        All are `length` long, by default as long as the network takes. What does not fit is cut off the end of the
        longer of the two texts.
        """
        length = self.facts["length"] if length is None else length
        start, middle, end = self.facts["start"], [] if pair is None else self.facts["middle"], self.facts["end"]
        first, second = self.ids(text), [] if pair is None else self.ids(pair)
        room = length - len(start + middle + end)
        if room < 0:
            raise ValueError(f"length must be {length - room} or more, for the special tokens. Got {length}.")
        while len(first) + len(second) > room:
            (first if len(first) > len(second) else second).pop()
        head, tail = start + first + middle, second + end
        padding = length - len(head) - len(tail)
        encoded = {"token_ids": head + tail + [self.facts["pad"]] * padding}
        if self.facts.get("masked", True):
            encoded["padding_mask"] = [1] * (length - padding) + [0] * padding
        if self.facts["segments"]:
            encoded["segment_ids"] = [0] * len(head) + [0 if pair is None else 1] * len(tail) + [0] * padding
        return encoded


class Table(dict):
    """A table for str.translate that works out a character's entry when it first meets the character."""

    def __init__(self, entry):
        self.entry = entry

    def __missing__(self, code):
        self[code] = self.entry(chr(code))
        return self[code]


def merged(symbols, rank):
    """Joins neighbours, the lowest `rank(left, right)` first and the left one of equals, until none has a rank."""
    symbols = list(symbols)
    before, after, heap = list(range(-1, len(symbols) - 1)), [*range(1, len(symbols)), -1], []

    def offer(left, right):
        value = rank(symbols[left], symbols[right]) if min(left, right) >= 0 else None
        if value is not None:
            heapq.heappush(heap, (value, left, right, symbols[left], symbols[right]))

    for right in range(1, len(symbols)):
        offer(right - 1, right)
    while heap:
        _, left, right, *pair = heapq.heappop(heap)
        if pair == [symbols[left], symbols[right]]:  # else one of them was joined since
            symbols[left], symbols[right] = "".join(pair), ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(before[left], left)
            offer(left, after[left])
    return filter(None, symbols)


class WordPiece:
    """Words, each cut into the longest pieces of the vocabulary from its left."""

    IDEOGRAPHS = re.compile(
        "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f]"
    )
    # What Unicode calls Default_Ignorable_Code_Point.
    IGNORED = re.compile(
        "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-"
        "\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    )

    def __init__(self, facts):
        self.facts = facts
        self.id_of = {token: i for i, token in enumerate(facts["vocabulary"])}
        self.special = re.compile(f"({'|'.join(map(re.escape, facts['special'])) or '(?!)'})")
        self.bordered, self.folded = Table(self._bordered), Table(self._folded)
        self.bare = Table(lambda char: "" if category(char) == "Mn" else char)
        self.said = facts.get("words")
        self.clean, self.lower, self.apart = Table(self._cleaned), Table(str.lower), Table(self._apart)

    def _cleaned(self, char):
        """Blanks are alike, what cannot be seen is left out, and an ideograph is a word."""
        if char in "\t\n\r" or category(char)[0] == "Z":
            return " "
        if category(char) in ("Cc", "Cf", "Co") or char == "\ufffd":
            return ""
        ideograph = self.said["ideographs"] and self.IDEOGRAPHS.match(char) and not 0x2B820 <= ord(char) < 0x2B920
        return f" {char} " if ideograph else char

    def _apart(self, char):
        alone = category(char)[0] == "P" or (char.isascii() and not char.isalnum())
        return f" {char} " if alone else char

    def _bordered(self, char):
        """Punctuation and all of ASCII but letters and digits are words; what cannot be seen is a border."""
        if char == " " or category(char) in ("Cc", "Cf"):
            return " "
        ideograph = self.facts["split_on_cjk"] and self.IDEOGRAPHS.match(char)
        alone = ideograph or category(char)[0] == "P" or (char.isascii() and not char.isalnum())
        return f" {char} " if alone else char

    def _folded(self, char):
        """Unicode's NFKC_Casefold of a character."""
        folded = self.IGNORED.sub("", normalize("NFKC", normalize("NFKC", char).casefold()))
        return folded if folded == char else self._folded(folded)

    def words(self, text):
        return self._bert(text) if self.said else self._hub(text)

    def _bert(self, text):
        text = text.translate(self.clean)
        text = normalize("NFD", text).translate(self.bare) if self.said["strip_accents"] else text
        text = text.translate(self.lower) if self.said["lowercase"] else text
        return filter(None, text.translate(self.apart).split(" "))

    def _hub(self, text):
        text = normalize("NFD", text).translate(self.bare) if self.facts["strip_accents"] else text
        for word in self._split(text) if self.facts["split"] else [text]:
            lower = self.facts["lowercase"] and word not in self.facts["special"]
            yield normalize("NFC", word.translate(self.folded)) if lower else word

    def _split(self, text):
        for n, part in enumerate(self.special.split(text.split("\0")[0])):  # what is found has the odd places
            yield from [part] if n % 2 else filter(None, part.translate(self.bordered).split(" "))

    def ids(self, word):
        ids, start, mark, size = [], 0, "", len(word if self.said else word.encode())
        while start < len(word):
            fits = (end for end in range(len(word), start, -1) if mark + word[start:end] in self.id_of)
            end = next(fits, 0) if size <= 100 else 0  # longer words are unknown
            if not end:
                return [self.facts["unknown"]]
            ids.append(self.id_of[mark + word[start:end]])
            start, mark = end, self.facts["suffix"]
        return ids


class BytePairs:
    """Words with the space before them, as bytes that are joined in the order of the merges."""

    BORDER, WIDE = "\u096c", "\xa0\u2009\u202f\u3000"
    SPACES = "\t\n\f\r " + WIDE
    WORDS = re.compile(
        f"('s|'t|'re|'ve|'m|'ll|'d|[{SPACES}]+[\n\r\t\f{BORDER}{WIDE}]| ?[A-Za-z]+| ?[0-9{BORDER}]+"
        f"| ?[^{SPACES}A-Za-z0-9{BORDER}]+)"
    )

    # As transformers cuts; `re` has \p{L} as A, \p{N} as 0 and other blanks as tabs here.
    _LLAMA = (
        "(?i:'(?:s|t|re|ve|m|ll|d))|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}| ?[^\t-\r A-Za-z0-9]+[\r\n]*|[\t-\r ]*[\r\n]+"
        "|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]"
    )
    CUTS = {
        "gpt2": "'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9]+|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]",
        "llama3": _LLAMA,
        "qwen2": _LLAMA.replace("{1,3}", ""),
    }

    def __init__(self, facts):
        self.said, self.signs = facts.get("words"), Table(self._sign)
        self.facts, self.shades, spare = facts, Table(self._shade), iter(range(256, 512))
        # A byte is the character of its number where that is printable, else one from 256 on.
        self.letters = [chr(b if 32 < b < 127 or 160 < b != 173 else next(spare)) for b in range(256)]
        self.ranks = {merge: rank for rank, merge in enumerate(facts["merges"])}
        numerals = str.maketrans("0123456789", "ABCDEFGHIJ")
        self.aliases = {token: "\u0134" + str(n).translate(numerals) for n, token in enumerate(facts["special"])}

    def _shade(self, char):
        """Stands in for a character where WORDS looks, because `re` knows no classes of Unicode."""
        if char.isascii() or char in self.WIDE + self.BORDER:
            return char
        return {"L": "A", "N": "0"}.get(category(char)[0], "!")

    def _sign(self, char):
        if char.isascii():
            return char
        if char == "\x85" or category(char)[0] == "Z":
            return "\t"
        # The long s ends words like an S, where case does not count.
        return "S" if char == "\u017f" else {"L": "A", "N": "0"}.get(category(char)[0], "!")

    def words(self, text):
        return self._cut(text) if self.said else self._hub(text)

    def _cut(self, text):
        text = (normalize("NFC", text) if self.said["compose"] else text).replace("\ufdd0", "")
        text = " " + text if self.said["prefix"] and text[:1] not in ("", " ") else text
        text, at = text.split("\0")[0], 0
        signs = text.translate(self.signs)
        for part in re.split("([0-9])", signs) if self.said["digits"] else [signs]:
            for found in re.findall(self.CUTS[self.said["cut"]], part):
                yield text[at : at + len(found)]
                at += len(found)

    def _hub(self, text):
        text = re.sub(f" (?=[^{self.SPACES}])", self.BORDER + " ", self.facts["prefix"] + text)
        text = re.sub(f"([\t\n\f\r ]{self.WIDE})\\Z", f"\\1{self.BORDER}", text)
        parts = [text.split("\0")[0]]
        for token, alias in self.aliases.items():
            parts = [found for part in parts for found in re.split(f"({re.escape(token)})", part)]
            parts = [alias if part == token else part for part in parts]
        for word in (word for part in parts for word in self._split(part)):
            for token, alias in self.aliases.items():
                word = word.replace(alias, token)
            if word != self.BORDER:
                yield word

    def _split(self, text):
        at = 0
        for shadow in filter(None, self.WORDS.split(text.translate(self.shades))):
            word, at = text[at : at + len(shadow)], at + len(shadow)
            last = word[-1] if word[-1] in " \t\r\f\v" + self.WIDE + self.BORDER else ""
            yield from filter(None, (word[: len(word) - len(last)], last))

    def ids(self, word):
        whole = "".join(self.letters[b] for b in word.encode()) if self.said and self.said["whole"] else ""
        if whole and whole in self.facts["vocabulary"]:
            return [self.facts["vocabulary"][whole]]
        joined = merged((self.letters[b] for b in word.encode()), lambda *pair: self.ranks.get(" ".join(pair)))
        pieces = word.split(" ") if word in self.aliases else joined
        return [self.facts["vocabulary"].get(piece, -1) for piece in pieces]


class SentencePiece:
    """The whole text, normalised, in the pieces that a unigram or BPE model finds best."""

    def __init__(self, facts):
        self.facts, self.user, self.unused = facts, set(facts["user"]), set(facts["unused"])
        self.pieces, self.longest = facts["pieces"], max(map(len, facts["pieces"]))
        user = [re.escape(piece.encode()) for piece in sorted(self.user, key=len, reverse=True)]
        self.symbol = re.compile(b"|".join([*user, b"[^\x80-\xbf][\x80-\xbf]*"]))
        # The rules of normalising: a trie of bytes as a double array, then the texts to put, each ended by a 0.
        rules = base64.b64decode(facts["charsmap"])
        size = int.from_bytes(rules[:4], "little")
        self.trie, self.texts = struct.unpack(f"<{size // 4}I", rules[4 : 4 + size]), rules[4 + size :]
        self.below = [node ^ unit >> 10 << ((unit & 0x200) >> 6) for node, unit in enumerate(self.trie)]

    def words(self, text):
        data, at, space, tidy = text.encode(), 0, self.facts["space"], self.facts["remove_extra_whitespaces"]
        whole, spaced = [self.facts["prefix"] if text else ""], tidy
        while at < len(data):
            symbol = self.symbol.match(data, at).group()
            rule = None if symbol.decode() in self.user else self._rule(data, at)
            part, size = rule or (symbol.decode(), len(symbol))
            part, at = part.lstrip(" ") if spaced else part, at + size
            whole.append(part.replace(" ", space))
            spaced = tidy and part.endswith(" ") if part else spaced
        return ["".join(whole).rstrip(space) if tidy else "".join(whole)]

    def _rule(self, data, at):
        """The longest rule that fits `data` at `at`: (the text to put, the number of bytes it replaces), or None."""
        rule, node = None, 0
        for end in range(at, len(data) if self.trie else at):
            node = self.below[node] ^ data[end]
            if node >= len(self.trie) or self.trie[node] & 0x800000FF != data[end]:
                break
            if self.trie[node] & 0x100:
                start = self.trie[self.below[node]] & 0x7FFFFFFF
                rule = self.texts[start : self.texts.index(0, start)].decode(), end + 1 - at
        return rule

    def ids(self, whole):
        yield from self.facts["before"]
        known = True
        for piece in (self._bpe if self.facts["model"] == "bpe" else self._unigram)(whole):
            was_known, known = known, piece in self.pieces
            if known:
                yield self.pieces[piece][0]
            elif self.facts["bytes"]:
                yield from (self.facts["bytes"][b] for b in piece.encode())
            elif was_known:  # neighbours that are unknown count as one
                yield self.facts["unknown"]
        yield from self.facts["behind"]

    def _unigram(self, text):
        best, starts = array("f", [0.0]) * (len(text) + 1), [-1] * (len(text) + 1)

        def offer(start, end, score):
            if starts[end] < 0 or score > best[end]:
                best[end], starts[end] = score, start

        for start in range(len(text)):
            for end in range(start + 1, min(len(text), start + self.longest) + 1):
                if text[start:end] in self.pieces:
                    offer(start, end, best[start] + self.pieces[text[start:end]][1])
            if text[start] not in self.pieces:
                # Scores add up in single precision, which decides between equals.
                offer(start, start + 1, array("f", [best[start] + self.facts["unknown_score"]])[0])
        pieces, end = [], len(text)
        while end:
            pieces.append(text[starts[end] : end])
            end = starts[end]
        return reversed(pieces)

    def _bpe(self, text):
        halves = {}

        def rank(left, right):
            piece = left + right
            if piece not in self.pieces or left in self.user or right in self.user:
                return None
            if piece in self.unused:
                halves[piece] = left, right
            return -self.pieces[piece][1]

        def used(piece):
            return [part for half in halves[piece] for part in used(half)] if piece in halves else [piece]

        symbols = map(bytes.decode, self.symbol.findall(text.encode()))
        return [part for piece in merged(symbols, rank) for part in used(piece)]


if __name__ == "__main__":
    tokenizer = Tokenizer(Path(__file__).with_name("tokenizer.json"))
    print(json.dumps(tokenizer.encode(*sys.argv[1:3])) if sys.argv[1:] else __doc__)
