"""Recall and precision of the rules on personal data and people's names, by language and kind.

The captions are in ``benchmarks/privacy_captions``: ``tuned.tsv`` was written before the rules
were extended, and was added to and read while that was done; ``held_out.tsv`` was written
afterwards, and no rule was changed for it. Both were written by who wrote the rules, so they are
likely kinder to them than other people's captions. All are made up; phone numbers, cards and
domains are reserved or example ones where there are such. About half hold nothing, and look as if
they did.

    python benchmarks/privacy.py            # prints the tables
    python benchmarks/privacy.py --missed   # ... and each caption that was missed or wrongly found
    python benchmarks/privacy.py --write    # ... and writes the figures that data-set cards quote
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from synthvlm.captions.readers.normalize import normalize
from synthvlm.captions.rules.name_forms import NameForms
from synthvlm.captions.rules.personal_data import KINDS, find_personal_data
from synthvlm.captions.rules.privacy_figures import FIGURES_FILE, Figures, Tally

FOLDER = Path(__file__).parent / "privacy_captions"
SETS = ("tuned", "held_out")
NAME = "name"


@dataclass(frozen=True)
class LabelledCaption:
    """A caption, the kinds that it holds, and those that the rules find in it."""

    language: str
    text: str
    holds: frozenset[str]
    reported: frozenset[str]


def labelled_captions(name: str) -> list[LabelledCaption]:
    """The captions of a set, as a run would read and measure them."""
    with (FOLDER / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    texts = [normalize(row["caption"]) for row in rows]
    names = NameForms().find(texts)
    return [
        LabelledCaption(
            row["language"],
            text,
            frozenset(row["holds"].split()) - {"-"},
            frozenset(
                [finding.kind for finding in find_personal_data(text)] + [NAME] * bool(in_text)
            ),
        )
        for row, text, in_text in zip(rows, texts, names, strict=True)
    ]


def tally(captions: Iterable[LabelledCaption], kinds: Iterable[str]) -> Tally:
    """How many captions hold one of the kinds, are reported to, and both."""
    sought = frozenset(kinds)
    actual = [bool(caption.holds & sought) for caption in captions]
    reported = [bool(caption.reported & sought) for caption in captions]
    correct = sum(a and b for a, b in zip(actual, reported, strict=True))
    return Tally(len(actual), sum(actual), sum(reported), correct)


def figures(captions: Sequence[LabelledCaption]) -> Figures:
    """The tallies of a set."""

    def by_language(kinds: Sequence[str]) -> dict[str, Tally]:
        languages = sorted({caption.language for caption in captions})
        return {
            language: tally([c for c in captions if c.language == language], kinds)
            for language in languages
        }

    return Figures(
        personal_data=by_language(KINDS),
        person_names=by_language([NAME]),
        kinds={kind: tally(captions, [kind]) for kind in (*KINDS, NAME)},
    )


def figures_json(results: Mapping[str, Figures]) -> str:
    """The text of the file that data-set cards take their figures from."""
    return json.dumps({name: asdict(one) for name, one in results.items()}, indent=1) + "\n"


def tables(name: str, result: Figures) -> list[str]:
    """The figures of a set as lines of Markdown."""
    lines = [
        f"{name}: {sum(one.captions for one in result.personal_data.values())} captions",
        "",
        "| language | captions | personal data: recall | precision | names: recall | precision |",
        "|---|---|---|---|---|---|",
    ]
    names = result.by_language("person_names")
    lines += [
        " | ".join([f"| {language}", str(one.captions), *one.cells(), *names[language].cells()])
        + " |"
        for language, one in result.by_language("personal_data").items()
    ]
    lines += ["", "| kind | recall | precision |", "|---|---|---|"]
    lines += [" | ".join([f"| {kind}", *one.cells()]) + " |" for kind, one in result.kinds.items()]
    return lines


def missed(captions: Iterable[LabelledCaption]) -> list[str]:
    """A line for each caption whose kinds are not those found."""
    return [
        f"{c.language}\t{' '.join(sorted(c.holds)) or '-'} -> {' '.join(sorted(c.reported)) or '-'}"
        f"\t{c.text}"
        for c in captions
        if c.holds != c.reported
    ]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--missed", action="store_true", help="print what went wrong")
    parser.add_argument("--write", action="store_true", help=f"write {FIGURES_FILE}")
    return parser


def main(argv: list[str] | None = None) -> None:
    arguments = make_parser().parse_args(argv)
    results = {}
    for name in SETS:
        captions = labelled_captions(name)
        results[name] = figures(captions)
        print("\n".join([*tables(name, results[name]), ""]))
        if arguments.missed:
            print("\n".join([*missed(captions), ""]))
    if arguments.write:
        FIGURES_FILE.write_text(figures_json(results), "utf-8")


if __name__ == "__main__":
    main()
