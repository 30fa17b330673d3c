"""`python -m scorefield` is the command line."""

from scorefield.cli import main

main()
