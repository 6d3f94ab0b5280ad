"""The table of caption rules, in the order in which they are applied.

First the rules that measure a text by itself (the method's five, then ours), then duplicates, then
the rules with models: those are expensive, and see only what everything before kept.
"""

from __future__ import annotations

from synthvlm.captions.rules.base import Rule
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
        "alnum_ratio": "synthvlm.captions.rules.method:AlnumRatio",
        "char_rep_ratio": "synthvlm.captions.rules.method:CharRepRatio",
        "flagged_words_ratio": "synthvlm.captions.rules.method:FlaggedWordsRatio",
        "special_char_ratio": "synthvlm.captions.rules.method:SpecialCharRatio",
        "word_rep_ratio": "synthvlm.captions.rules.method:WordRepRatio",
        "char_count": "synthvlm.captions.rules.method:CharCount",
        "word_count": "synthvlm.captions.rules.method:WordCount",
        "control_tokens": "synthvlm.captions.rules.control_tokens:ControlTokens",
        "language": "synthvlm.captions.rules.language:LanguageShare",
        "personal_data": "synthvlm.captions.rules.personal_data:PersonalData",
        "person_names": "synthvlm.captions.rules.person_names:PersonNames",
        "benchmark_overlap": "synthvlm.captions.rules.benchmark_overlap:BenchmarkOverlap",
        "tagged_names": "synthvlm.captions.rules.person_names:TaggedNames",
        "perplexity": "synthvlm.captions.model_rules.perplexity:Perplexity",
        "image_text_matching": "synthvlm.captions.model_rules.image_text:ImageTextMatching",
        "clip_similarity": "synthvlm.captions.model_rules.image_text:ClipSimilarity",
        "judge": "synthvlm.captions.model_rules.judge:Judge",
    },
    on_by_default=METHOD_RULES,
    # Steps of curation that are no rules, and columns of the table of captions.
    reserved=(
        *("alignment", "concepts", "duplicate", "empty", "near_duplicate", "unmeasured"),
        "unreadable",
        *("id", "source", "row", "text_raw", "text", "problem"),
        *("captions", "kept", "rejected_by", "duplicate_of"),
    ),
)
