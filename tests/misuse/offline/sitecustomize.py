"""What every Python that starts from this folder imports first: it asks for no network, or $ASKED has a line of it."""

import gc
import os
import sys

NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
ADDRESSES = ("socket.connect", "socket.sendto", "socket.sendmsg")


def refuse(event, arguments):
    """Note and refuse what leaves the machine; sockets that are files, by which processes talk, stay."""
    if event in NAMES or (event in ADDRESSES and isinstance(arguments[-1], tuple)):
        with open(os.environ["ASKED"], "a") as asked:
            asked.write(f"{event} {arguments!r} by {sys.argv}\n")
        raise OSError(f"{event} in a test without network")


sys.addaudithook(refuse)
gc.set_threshold(100_000)  # by the usual 700, looking for garbage takes a sixth of the time, most of it in imports
