"""Write golden_rules.jsonl with py-data-juicer 1.6.1 (see benchmarks/data-juicer.txt).

Run it with the Python of an environment that holds that library: its own operators measure texts
made here, so that our rules are held to values that our code had no part in.
"""

# ruff: noqa: RUF001 - characters that look like others are what is tested

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

WORDS = ["nsfw", "porn", "xxx"]
BOUNDS = {
    "alnum_ratio": (0.60, None),
    "char_rep_ratio": (None, 0.09373663),
    "flagged_words_ratio": (None, 0.0),
    "special_char_ratio": (0.16534802, 0.42023757),
    "word_rep_ratio": (None, 0.03085751),
}

WRITTEN = [
    "",
    " ",
    "\n\t ",
    "a",
    "7",
    "\0",
    "nul\0inside a word",
    "kkkkkkkkk",
    "kkkkkkkkkk",
    "kkkkkkkkkkk",
    "z" * 5000,
    "ab " * 400,
    "A wooden boat lies on a calm lake at dawn.",
    "Two children fly a red kite above the dunes, while a dog runs after them!",
    "XXX",
    "xxx-rated nsfw (PORN) clip",
    "pornography is not in the list, nor is pornxxx",
    "...nsfw... !!! «xxx» ",
    "ein Bär trinkt süßen Tee auf der Straße",
    "İstanbul'da bir İNCİ gibi parlayan ışıklar",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ ΑΣ' Σ.Σ ΟΔΟΣ",
    "一辆红色的自行车靠在墙上。",
    "猫　と　犬、公園で　遊ぶ",
    "رجل يمشي مع كلبه على الشاطئ",
    "हरे मैदान में एक सफेद घोड़ा",
    "🎈🎈🎈 party on the roof 🎈",
    "👩‍🚀 floats ❤️ above 🇫🇷 the earth 🏳️‍🌈",
    "１２３　ｆｕｌｌ　ｗｉｄｔｈ",
    "“curly” ‘quotes’ — and – dashes…",
    "soft\u00adhyphen zero\u200bwidth \ufeffbom no\u00a0break",
    "x² + y³ = ½ ⓐ Ⅷ ٣",
    "price: $19.99 (50% OFF!!!) -- buy now >>> www.example.com",
    "tab\tseparated\twords\nand\nlines",
    "formfeed\x0cand\x0bvertical\x1ctab",
    "e\u0301 combining n\u0303 marks",
    "SALE SALE SALE SALE SALE SALE SALE SALE SALE SALE SALE SALE",
    " ".join(f"w{i}" for i in range(40)),
    " ".join(["a quiet street in the old town after the rain at night"] * 3),
    "(one) two, three; four: five. six! seven? eight/ nine- ten_ " * 2,
]
SUBJECTS = ["a brown dog", "an old man", "two girls", "the Eiffel tower", "a bowl of soup", "Zoë"]
VERBS = ["stands beside", "looks at", "is painted on", "hides behind", "reflects in"]
PLACES = ["a stone wall", "the blue door", "a small café", "the sea", "some trees in autumn"]


def texts() -> list[str]:
    """The written texts, plain captions, and captions spoilt in the ways the rules look for."""
    rng = random.Random(7)
    result = list(WRITTEN)
    for _ in range(80):
        parts = [rng.choice(words) for words in (SUBJECTS, VERBS, PLACES)]
        result.append(" ".join(parts) + rng.choice(["", ".", " .", "!", ", 4k, 2019"]))
    for _ in range(60):
        phrase = " ".join(rng.choice(SUBJECTS + PLACES) for _ in range(rng.randint(1, 5)))
        result.append(rng.choice([" ", ", ", " ... "]).join([phrase] * rng.randint(2, 6)))
    for _ in range(20):  # the same words again in other letters: only words repeat
        phrase = " ".join(rng.choice(words) for words in (SUBJECTS, VERBS, PLACES, SUBJECTS, VERBS))
        result.append(f"{phrase}, {phrase.upper()}")
    for alphabet in ("ab ", "ab1.,! -", "aB\n\t «»é中🎈\u200d", "IiİıΣςσ ", "xnp s-fwor"):
        for _ in range(30):
            result.append("".join(rng.choices(alphabet, k=rng.randint(1, 90))))
    for _ in range(30):
        words = rng.choices([*WORDS, "Porn!", "cat", "dog", "(xxx)", "the", "--"], k=12)
        result.append(" ".join(words))
    return list(dict.fromkeys(result))


def main() -> None:
    """Measure all texts and write them next to this file."""
    from data_juicer.ops.filter.alphanumeric_filter import AlphanumericFilter
    from data_juicer.ops.filter.character_repetition_filter import CharacterRepetitionFilter
    from data_juicer.ops.filter.flagged_words_filter import FlaggedWordFilter
    from data_juicer.ops.filter.special_characters_filter import SpecialCharactersFilter
    from data_juicer.ops.filter.word_repetition_filter import WordRepetitionFilter
    from data_juicer.utils.constant import Fields

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "flagged_words.json").write_text(json.dumps({"en": WORDS}))
        operators = [
            AlphanumericFilter(min_ratio=0.60),
            CharacterRepetitionFilter(rep_len=10, max_ratio=0.09373663),
            FlaggedWordFilter(max_ratio=0.0, flagged_words_dir=folder),
            SpecialCharactersFilter(min_ratio=0.16534802, max_ratio=0.42023757),
            WordRepetitionFilter(rep_len=10, max_ratio=0.03085751),
        ]
    rows = [{"text": text} for text in texts()]
    samples = {"text": [row["text"] for row in rows], Fields.stats: [{} for _ in rows]}
    verdicts = []
    for operator in operators:
        samples = operator.compute_stats_batched(samples)
        verdicts.append(list(operator.process_batched(samples)))
    with Path(__file__).with_name("golden_rules.jsonl").open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            row.update({name: samples[Fields.stats][number][name] for name in BOUNDS})
            failed = [name for name, kept in zip(BOUNDS, verdicts, strict=True) if not kept[number]]
            row["first_failed"] = failed[0] if failed else None
            print(json.dumps(row), file=file)


if __name__ == "__main__":
    main()
