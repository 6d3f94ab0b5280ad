"""How good a vision-language model is: local question files, and the paper's benchmarks."""
