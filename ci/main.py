"""The command `drydock`, from a checkout: `dagger run python ci/main.py`."""

from drydock.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
