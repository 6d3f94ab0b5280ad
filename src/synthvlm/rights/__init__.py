"""Terms of models and of captions: what is known of them, and whether a recipe may go on."""

from synthvlm.rights.check import check_terms, unstated_use
from synthvlm.rights.in_use import TermsInUse, terms_in_use
from synthvlm.rights.table import Answer, Entry, Licence, TermsTable, terms_table

__all__ = [
    "Answer",
    "Entry",
    "Licence",
    "TermsInUse",
    "TermsTable",
    "check_terms",
    "terms_in_use",
    "terms_table",
    "unstated_use",
]
