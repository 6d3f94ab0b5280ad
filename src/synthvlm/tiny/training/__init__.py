"""How the bundled models were trained. Each module is a command: `python -m ... --help`."""
