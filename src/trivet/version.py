"""The version of this package: of its own, so that whatever tells it imports nothing else."""

VERSION = "0.1.0"
