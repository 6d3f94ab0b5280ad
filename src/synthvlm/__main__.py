"""``python -m synthvlm``."""

from synthvlm.cli import main

if __name__ == "__main__":
    main()
