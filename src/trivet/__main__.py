"""`python -m trivet` is `trivet`."""

from trivet.cli.main import main

main()
