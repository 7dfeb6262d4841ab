"""`python -m mistline` is `mistline`."""

from mistline.cli import main

main()
