"""`python -m modiste`, which torchrun starts: `torchrun --nproc-per-node 3 -m modiste train ...`."""

from modiste.cli.app import main

main()
