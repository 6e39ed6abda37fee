"""`python -m pagelens.cli`: where the command is not on the path."""

from pagelens.cli import main

main()
