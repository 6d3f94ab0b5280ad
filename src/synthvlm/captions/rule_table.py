"""The table of caption rules, in the order in which they are applied.

First the rules that measure a text by itself (the method's five, then ours), then duplicates, then
the rules with models: those are expensive, and see only what everything before kept.
"""

from __future__ import annotations

from synthvlm.captions.rule import Rule
from synthvlm.components.table import Table

__all__ = ["METHOD_RULES", "RULES"]

#: The method's own rules, in its order; on with its bounds where a recipe does not name them.
METHOD_RULES = (
    "alnum_ratio",
    "char_rep_ratio",
    "flagged_words_ratio",
    "special_char_ratio",
    "word_rep_ratio",
)

RULES = Table(
    "rule",
    Rule,
    {
        "alnum_ratio": "synthvlm.captions.rules:AlnumRatio",
        "char_rep_ratio": "synthvlm.captions.rules:CharRepRatio",
        "flagged_words_ratio": "synthvlm.captions.rules:FlaggedWordsRatio",
        "special_char_ratio": "synthvlm.captions.rules:SpecialCharRatio",
        "word_rep_ratio": "synthvlm.captions.rules:WordRepRatio",
        "char_count": "synthvlm.captions.length:CharCount",
        "word_count": "synthvlm.captions.length:WordCount",
        "language": "synthvlm.captions.language:LanguageShare",
        "personal_data": "synthvlm.captions.personal_data:PersonalData",
        "person_names": "synthvlm.captions.person_names:PersonNames",
        "benchmark_overlap": "synthvlm.captions.benchmark_overlap:BenchmarkOverlap",
        "tagged_names": "synthvlm.captions.person_names:TaggedNames",
        "perplexity": "synthvlm.captions.perplexity:Perplexity",
        "image_text_matching": "synthvlm.captions.image_text:ImageTextMatching",
        "clip_similarity": "synthvlm.captions.image_text:ClipSimilarity",
        "judge": "synthvlm.captions.judge:Judge",
    },
    on_by_default=METHOD_RULES,
    # Steps of curation that are no rules, and columns of the table of captions.
    reserved=(
        *("alignment", "concepts", "duplicate", "near_duplicate", "unmeasured", "unreadable"),
        *("id", "source", "row", "text_raw", "text", "problem"),
        *("captions", "kept", "rejected_by", "duplicate_of"),
    ),
)
