"""Downloads by torchvision and tonic, and the packages themselves, imported when they are needed."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from collections.abc import Callable
from typing import Any

from biril_nm.data.sources import Request, missing
from biril_nm.errors import MissingDependencyError

__all__ = ["fetch", "library"]

log = logging.getLogger(__name__)


def library(name: str, purpose: str) -> Any:
    """The package ``torchvision`` or ``tonic``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(name, "data", purpose) from error


def fetch(request: Request, load: Callable[[Any], Any], package: str = "torchvision") -> None:
    """Let a library fetch and unpack what is missing; its messages go to the log.

    Args:
        request: the data set.
        load: called with the package.
        package: the library.

    Raises:
        ConfigError: the library could not.
        MissingDependencyError: it is not installed.
    """
    module = library(package, f"fetch {request.source.title}")
    words = io.StringIO()
    request.folder().mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
            load(module)
    except Exception as error:  # a library raises anything: no network, wrong sums, no such host
        reason = " ".join(str(error).split()) or type(error).__name__
        raise missing(request, f"{package} could not fetch it: {reason:.200}") from error
    finally:
        log.info("%s: %s", package, words.getvalue().strip())
