"""The receipt of a data set that was fetched."""

from pathlib import Path

from gazepipe.common.files import read_json
from gazepipe.errors import UserError


def raw_folder(receipt: Path) -> Path:
    """The native folder that a receipt names; `UserError` where it is gone."""
    folder = Path(read_json(receipt).get("folder", ""))
    if not folder.is_dir():
        raise UserError(f"{folder}: is named in {receipt} and is not there; delete {receipt} and run again")
    return folder
