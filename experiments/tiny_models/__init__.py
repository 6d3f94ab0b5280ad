"""How the bundled models were trained.

Commands, run from the repository's root (`python -m experiments.tiny_models.clip --help`):
`tokenizer`, `autoencoder`, `clip`, `diffusion` and `language` train, `export` writes the folders,
`restore` makes checkpoints of shipped weights, and `bundled_captions` writes the caption file.
`autoencoder_benchmark` and `language_benchmark` measure what came of it.

A training command is a page of options, losses and the loop. Beside it lie its model
(`*_model.py`) and its data (`clip_claims`, `clip_batches`, `clip_atoms`, `language_rows`); what all
commands share is in `loop`, `options` and `checkpoint`.
"""
