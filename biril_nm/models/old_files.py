"""Files of biril-nm 0.1.0, which were torch archives: read only if they hold nothing but tensors.

torch looks into an archive before it unpickles: below torch 2.6, one that holds ``constants.pkl`` is run as
TorchScript even with ``weights_only=True``. So the members are checked here, and torch gets a new
archive of the checked members alone; what another zip reader might find in the file does not matter.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biril_nm.errors import BirilError, FileFormatError
from biril_nm.storage import check_plain, parse_json
from biril_nm.storage.bounds import open_regular
from biril_nm.storage.zips import open_zip

__all__ = ["is_torch_archive", "read_torch_archive"]

OLD_VERSION = 1
MAX_ARCHIVE_BYTES = 512 << 20
MAX_PICKLE_BYTES = 16 << 20
MAX_NOTE_BYTES = 1 << 10
PICKLE = "data.pkl"
# torch/serialization.py MAGIC_NUMBER, as the pickle before all others of a file that is no zip archive
BEFORE_ZIP = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
STORAGE = re.compile(r"data/[0-9]{1,6}", re.ASCII)
# torch 2.3 to 2.13, PyTorchStreamWriter and torch/serialization.py _save
NOTES = ("version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment")
STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {name}Storage" for name in STORAGES),
}
TEXTS = ("train_config", "records")  # JSON in JSON, in checkpoints


def is_torch_archive(path: str | Path) -> bool:
    """Whether the archive was made by ``torch.save``, or pretends to be.

    Raises:
        FileFormatError: no zip archive.
    """
    with open_regular(path) as file:
        if file.read(len(BEFORE_ZIP)) == BEFORE_ZIP:
            raise FileFormatError(
                f"'{path}' is a file of torch before 1.6, or made with _use_new_zipfile_serialization=False; "
                f"expected a zip archive. Save it anew: torch.save(torch.load(path, weights_only=True), path)"
            )
    with open_zip(path, "a readable model file") as archive:
        return any(name.rpartition("/")[2] == PICKLE for name in archive.namelist())


def read_torch_archive(
    path: str | Path, file_format: str, bare: bool = False
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file of 0.1.0, named as :mod:`biril_nm.models.files` names them.

    Args:
        path: the file.
        file_format: its format.
        bare: whether it may be ``torch.save(net.state_dict(), path)`` instead, whose header is empty; or a
            checkpoint that holds the weights of one network beside other plain values.

    Raises:
        FileFormatError: anything but the plain values and tensors of such a file.
    """
    source = Path(path)
    record = _plain_record(source)
    if bare and isinstance(record, dict) and record and "format" not in record:
        return {}, {f"weights/{k}": v for k, v in _weights_in(record, source).items()}
    found = (record.get("format"), record.get("version")) if isinstance(record, dict) else ()
    if found != (file_format, OLD_VERSION):
        raise FileFormatError(
            f"'{source}' has format and version {found!r:.80}; expected a '{file_format}' file"
        )
    try:
        return _header(record, source), _tensors(record)
    except BirilError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"'{source}' is not a complete file: {error!r:.200}") from error


def _weights_in(record: dict[Any, Any], source: Path) -> dict[str, Tensor]:
    """The weights that torch saved alone, or the only ones in a checkpoint (``{"state_dict": ..., ...}``)."""
    if _is_weights(record):
        return record
    found = [key for key, value in record.items() if _is_weights(value)]
    if len(found) == 1:
        chosen: dict[str, Tensor] = record[found[0]]
        return chosen
    if found:
        raise FileFormatError(
            f"'{source}' holds several sets of weights, {[str(key) for key in found][:8]}; expected those "
            f"of one network. Save one of them: torch.save(torch.load(path, weights_only=True)"
            f"[{found[0]!r:.40}], 'weights.pt')"
        )
    wrong = [str(key) for key, value in record.items() if not isinstance(value, Tensor)]
    raise FileFormatError(
        f"'{source}' holds {wrong[:4]} besides tensors; expected the weights of one network. Save "
        f"net.state_dict(), or the network with biril_nm.save"
    )


def _is_weights(value: Any) -> bool:
    names = isinstance(value, dict) and all(isinstance(key, str) for key in value)
    return names and bool(value) and all(isinstance(part, Tensor) for part in value.values())


def _plain_record(source: Path) -> Any:
    """What an archive holds: plain values and tensors."""
    members = _checked_members(source)
    _check_pickle(source, members[PICKLE])
    try:
        record = torch.load(_archive(members), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive fails anywhere inside torch's reader
        raise FileFormatError(
            f"'{source}' is damaged ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
        ) from error
    check_plain(record, f"'{source}'", allowed=lambda value: isinstance(value, Tensor))
    return record


def _checked_members(source: Path) -> dict[str, bytes]:
    """All members by their name in the archive's folder, after names and sizes were checked."""
    with open_zip(source, "a readable model file") as archive:
        entries = archive.infolist()
        names = [entry.filename.partition("/")[2] for entry in entries]
        folders = {entry.filename.partition("/")[0] for entry in entries}
        other = [n for n in names if n not in (PICKLE, *NOTES) and not STORAGE.fullmatch(n)]
        if other or len(folders) != 1 or PICKLE not in names:
            raise FileFormatError(
                f"'{source}' holds {sorted(other)[:8] or sorted(folders)[:8]} besides tensors, which is "
                f"never loaded: TorchScript archives hold programs. If you trust it, save its weights: "
                f"torch.save(torch.jit.load(path).state_dict(), 'weights.pt')"
            )
        for entry, name in zip(entries, names):
            _check_entry(source, entry, name)
        if sum(entry.file_size for entry in entries) > MAX_ARCHIVE_BYTES:
            raise FileFormatError(f"'{source}' unpacks to more than {MAX_ARCHIVE_BYTES} bytes")
        return {name: archive.read(entry) for entry, name in zip(entries, names)}


def _check_entry(source: Path, entry: zipfile.ZipInfo, name: str) -> None:
    limit = {PICKLE: MAX_PICKLE_BYTES}.get(name, MAX_NOTE_BYTES if name in NOTES else None)
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise FileFormatError(f"'{source}': member '{name}' is compressed, which torch never does")
    if limit is not None and entry.file_size > limit:
        raise FileFormatError(f"'{source}': member '{name}' is larger than {limit} bytes")


def _check_pickle(source: Path, data: bytes) -> None:
    """Refuse a pickle that names anything but tensors, before any unpickler sees it."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "GLOBAL" and argument not in GLOBALS:
                raise FileFormatError(
                    f"'{source}' holds {argument!r:.60}, which is not a plain tensor and never loaded; "
                    f"expected weights. Save net.state_dict() alone where it was made; if you trust it, "
                    f"torch.save(torch.load(path, weights_only=False)['state_dict'], 'weights.pt'), which "
                    f"runs what it holds"
                )
            if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"):
                raise FileFormatError(f"'{source}' holds objects, which are never loaded")
    except BirilError:
        raise
    except Exception as error:  # pickletools raises whatever damaged bytes provoke
        raise FileFormatError(f"'{source}' is damaged: {error}") from error


def _archive(members: Mapping[str, bytes]) -> io.BytesIO:
    """A new archive of the checked members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    stream.seek(0)
    return stream


def _header(record: Mapping[str, Any], source: Path) -> dict[str, Any]:
    header = {key: record[key] for key in ("format", "model", "config")}
    texts = {key: record[key] for key in TEXTS if key in record}
    return {**header, **{k: parse_json(text, f"{k} of '{source}'") for k, text in texts.items()}}


def _tensors(record: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = {f"weights/{key}": value for key, value in record["state_dict"].items()}
    for index, entry in record.get("optimizer", {}).get("state", {}).items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in entry.items()}
    wrong = [key for key, value in tensors.items() if not isinstance(value, Tensor)]
    if wrong:
        raise TypeError(f"{wrong[:4]} are not tensors")
    return tensors
