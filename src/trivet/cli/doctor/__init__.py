"""`trivet doctor`: is everything in place? A module for each subject; `report.py` is the command."""

from trivet.cli.doctor.report import command

__all__ = ["command"]
