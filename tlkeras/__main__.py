"""python -m tlkeras: the command line."""

from tlkeras.cli import main

main(prog_name="tlkeras")
