# The command line.
from captum_infomask.cli.parser import main

__all__ = ["main"]
