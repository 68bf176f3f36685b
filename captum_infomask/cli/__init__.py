# The command line.
from captum_infomask.cli.program import main

__all__ = ["main"]
