"""Train in this process: a YAML file and a folder. Started by ``accelerate launch``."""

from __future__ import annotations

import sys

from synthvlm.training.train import train_command

train_command(sys.argv[1], sys.argv[2], data=[], changes=[])
