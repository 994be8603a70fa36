"""What a setting names as ``module:attribute``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
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
        named = _as_import(module_name) or "shop"
        raise ConfigurationError(
            f"{where} is not of the form module:attribute, such as {named}:app"
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except OutboxError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{where}: {_why(module_name, error)}") from error
    return getattr(module, attribute, None)


def _why(module: str, error: BaseException) -> str:
    """Why a module cannot be imported, with the place in the user's code where there is one."""
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        named = _as_import(module)
        hint = f": name it as an import does, {named}" if named != module else ""
        return f"there is no module {error.name}, neither in {Path.cwd()} nor installed{hint}"
    place = ""
    if not isinstance(error, SyntaxError):  # which says it itself
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename not in (__file__, importlib.__file__) and frame.filename[:1] != "<"
        ]
        # Of a library's own errors, the last line of the user's that led there.
        own = [frame for frame in frames if frame.filename.startswith(f"{Path.cwd()}{os.sep}")]
        at = (own or frames)[-1:]
        place = "".join(f" in {frame.filename}, line {frame.lineno}" for frame in at)
    return f"importing {module} failed{place}, {type(error).__name__}: {error}"


def _as_import(module: str) -> str:
    """What was meant by a module that is named as a file."""
    return module.removesuffix(".py").strip("./").replace("/", ".")
