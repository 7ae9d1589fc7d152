"""What ModelsLab's requests come to, from the fields to the webhook, as files that people can read."""

from pathlib import Path

import pytest

from shared.dialects.modelslab import DIALECT
from tests.dialects import gold

FILES = sorted((Path(__file__).parent / "golden" / "modelslab").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path):
    gold.check(DIALECT, path)
