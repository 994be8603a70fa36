"""The Python blocks of a documentation page, so that tests can run them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def python_blocks(page: str) -> list[str]:
    """What stands between ```python and ``` in docs/<page>, in order."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
