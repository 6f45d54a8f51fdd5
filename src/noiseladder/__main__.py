"""`python -m noiseladder` is the command `noiseladder`, also under torchrun (`torchrun -m noiseladder train ...`)."""

from noiseladder.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
