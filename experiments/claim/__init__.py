"""The paper's claim, in miniature: README.md."""
