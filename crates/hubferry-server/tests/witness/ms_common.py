"""What the ModelScope witnesses share: where the hub is, and a record of the requests a client really made."""

import os
import pathlib
import sys

import requests
from sample import *

HUB = os.environ["WITNESS_HUB"]
OWNER_TOKEN = os.environ["WITNESS_OWNER_TOKEN"]
STRANGER_TOKEN = os.environ["WITNESS_STRANGER_TOKEN"]
READER_TOKEN = os.environ["WITNESS_READER_TOKEN"]
WORK = pathlib.Path(os.environ["WITNESS_WORK"])

SEEN = []
_send = requests.Session.send


def _recording_send(self, request, **options):
    response = _send(self, request, **options)
    SEEN.append((request.method, request.path_url, response.status_code))
    return response


requests.Session.send = _recording_send


def seen(method, part):
    """How many requests with this method had `part` in their path since the last `forget`."""
    return sum(1 for m, path, _ in SEEN if m == method and part in path)


def forget():
    SEEN.clear()


def refused(action, *kinds):
    """Runs `action`, which must raise one of `kinds`; returns the exception."""
    try:
        value = action()
    except kinds as error:
        return error
    sys.exit(f"{action} should have been refused and gave {value!r}")
