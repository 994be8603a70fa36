"""What a setting names as ``module:attribute``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from outbox.errors import ConfigurationError, OutboxError


def load_reference(reference: str, where: str) -> Any:
    """What ``module:attribute`` names; None: the module has no such attribute. The directory that
    the program was started in is searched too.

    Args:
        where: how a message begins: who names it.

    Raises:
        ConfigurationError: it is not of that form, or the module cannot be imported.
        OutboxError: the module's own.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(f"{where} is not of the form module:attribute")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except OutboxError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{where}: importing {module_name} failed, {type(error).__name__}: {error}"
        ) from error
    return getattr(module, attribute, None)
