"""`python -m prfaas`: the same as the `prfaas` command."""

from prfaas.cli.main import main

main()
