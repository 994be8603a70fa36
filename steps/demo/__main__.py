"""``python -m steps.demo``: run the shipped payments through the payment saga, and judge the end.

Exit codes: 0 everything is as it must be; 1 something is not, or the demo could not be run; 130
after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import sys

from steps.demo.interrupts import Interrupts


def main() -> int:
    """Run the demo.

    Returns:
        The exit code.
    """
    with Interrupts() as interrupts:
        # Importing takes a second; a signal in it is to be heard like a later one.
        from steps.demo.command import demo

        return demo(interrupts)


if __name__ == "__main__":
    sys.exit(main())
