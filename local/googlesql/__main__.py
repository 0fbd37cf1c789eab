"""``python -m local.googlesql``: compile Google's SQL engine for this machine, once."""

import argparse
import sys
import time

from local.googlesql.compiled import EngineMissing, compile_once, kept_path


def main() -> None:
    """Compile, and say what was done. Without the wheel nothing is done, and that is no failure."""
    parser = argparse.ArgumentParser(prog="python -m local.googlesql", description=__doc__)
    parser.add_argument("--anew", action="store_true", help="compile also when it was compiled before")
    anew = parser.parse_args().anew
    started = time.monotonic()
    try:
        if compile_once(anew=anew):
            size = kept_path().stat().st_size / 1e6
            sys.stdout.write(f"Google's SQL engine: compiled in {time.monotonic() - started:.0f} s, {size:.0f} MB\n")
    except EngineMissing as missing:
        sys.stdout.write(f"Google's SQL engine: {missing}. The local warehouse checks no statements.\n")


if __name__ == "__main__":
    main()
