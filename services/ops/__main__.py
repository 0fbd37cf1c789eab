"""``python -m services.ops`` is the `credix` command."""

from services.ops.cli import main

if __name__ == "__main__":
    main()
