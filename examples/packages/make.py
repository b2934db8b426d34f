"""Makes terms.jsonl and questions.json from packages.csv: python examples/packages/make.py

Both are read off the descriptions by rule, which is enough to try token classification and question answering on real
text, and no more: names of languages, formats and systems are looked up in the lists below; a question asks what a
thing is for, and the answer is what stands behind 'for'.
"""

import csv
import json
import random
import re
from pathlib import Path

HERE = Path(__file__).parent
TERMS = {
    "LANGUAGE": "python perl java ruby haskell php javascript lua c++ scheme ocaml tcl rust fortran lisp erlang "
    "verilog vhdl go guile prolog smalltalk",
    "FORMAT": "mp3 ogg pdf xml html json svg png jpeg tiff midi csv latex dvi flac wav postscript sql opentype truetype "
    "imap smtp pop3 http gds gerber fits dicom exif mpeg mbox maildir fasta",
    "SYSTEM": "gnome kde gtk gtk+ qt emacs vim postgresql mysql sqlite apache x11 linux windows mariadb debian sdl alsa "
    "jack pulseaudio opengl thunderbird mutt postfix exim firefox gimp wordpress django",
}
KIND = {word: kind for kind, words in TERMS.items() for word in words.split()}
WORD = re.compile(r"[\w+]+|[^\w\s]")


def terms(texts: list[str]):
    for text in texts:
        words = WORD.findall(text)
        tags = [f"B-{KIND[w.lower()]}" if w.lower() in KIND else "O" for w in words]
        yield {"text": words, "label": tags}


def questions(texts: list[str], rng: random.Random):
    asked = {}
    for text in texts:
        if found := re.fullmatch(
            r"(?:an? |the )?([\w' +/-]{4,40}?) for (?:the )?([\w' +/.-]{3,40}?)(?: \(.*)?", text, re.I
        ):
            asked.setdefault(found[1].lower(), []).append((text, found[1], found[2]))
    for n, (thing, rows) in enumerate(sorted(asked.items())):
        text, name, answer = rows[0]
        others = rng.sample([t for t in texts if thing not in t.lower()], 2)
        lines = rng.sample([text, *others], 3)
        context = ". ".join(lines) + "."
        start = context.index(text) + text.rindex(answer)
        qa = {
            "id": str(n),
            "question": f"What is the {name} for?",
            "answers": [{"text": answer, "answer_start": start}],
        }
        yield {"context": context, "qas": [qa]}


def main() -> None:
    rng = random.Random(0)
    with (HERE / "packages.csv").open(encoding="utf8", newline="") as f:
        texts = list(dict.fromkeys(row["text"] for row in csv.DictReader(f)))
    rows = list(terms(texts))
    named = [r for r in rows if set(r["label"]) != {"O"}]
    plain = rng.sample([r for r in rows if set(r["label"]) == {"O"}], len(named) // 3)
    lines = [json.dumps(r, ensure_ascii=False) for r in rng.sample(named + plain, len(named) + len(plain))]
    (HERE / "terms.jsonl").write_text("\n".join(lines) + "\n", "utf8")
    paragraphs = list(questions(texts, rng))
    data = {"version": "1", "data": [{"title": "packages", "paragraphs": paragraphs}]}
    (HERE / "questions.json").write_text(json.dumps(data, ensure_ascii=False, indent=0) + "\n", "utf8")
    print(
        f"{len(lines)} texts with {sum(t != 'O' for r in named for t in r['label'])} terms, {len(paragraphs)} questions"
    )


if __name__ == "__main__":
    main()
