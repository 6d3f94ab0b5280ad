"""How results and embedded models came about; run from the repository's root, in no wheel."""
