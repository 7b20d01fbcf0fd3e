"""Downloads by torchvision and tonic, and the packages themselves, imported when they are needed."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from typing import Any

from biril_nm import optional
from biril_nm.data.sources import Request, missing

__all__ = ["fetch", "library"]

log = logging.getLogger(__name__)


def library(name: str, purpose: str, extra: str = "data") -> Any:
    """The package ``torchvision``, ``tonic`` or another that reads data.

    Raises:
        MissingDependencyError: it is not installed, or cannot be imported.
    """
    return optional.library(name, extra, purpose)


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
