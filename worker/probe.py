"""`python -m worker.probe`: which device a worker of this machine would use, as one line of JSON. For the doctor."""

import json
import sys

from shared.errors import ConfigurationError
from shared.settings import Settings
from worker.device import open_device


def main() -> None:
    """Print the device; exit status 1 and the reason where it cannot be used."""
    try:
        device = open_device(Settings.from_env().device)
    except ConfigurationError as error:
        sys.exit(error.message)
    told = {"device": device.torch_name, "title": device.title, "dtype": device.dtype_name}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
